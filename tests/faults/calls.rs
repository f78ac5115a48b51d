//! Which system calls change something, and which are known not to.

use nix::libc;

/// Where in its arguments a call names what it works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// An open file.
    Fd(usize),
    /// A path.
    Path(usize),
    /// A path relative to an open directory; without a path, that file itself.
    At(usize, usize),
    /// Two paths.
    Paths(usize, usize),
    /// Two paths relative to open directories.
    Ats(usize, usize, usize, usize),
    /// Nothing that has a name.
    Nothing,
}

/// What decides whether a call changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// It does.
    Always,
    /// One of these bits is set in an argument.
    Bits(usize, u32),
    /// The argument points to an `open_how` whose flags create or truncate.
    OpenHow(usize),
    /// The argument is none of the requests in [`ASKING`].
    Request(usize),
}

/// A system call that changes something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Changing {
    pub(crate) number: i64,
    pub(crate) name: &'static str,
    pub(crate) names: Names,
    pub(crate) when: When,
    /// The argument that has the number of bytes, where fewer of them may be written.
    pub(crate) length: Option<usize>,
}

impl Changing {
    const fn new(number: i64, name: &'static str, names: Names) -> Self {
        Self {
            number,
            name,
            names,
            when: When::Always,
            length: None,
        }
    }

    const fn when(self, when: When) -> Self {
        Self { when, ..self }
    }

    const fn length(self, argument: usize) -> Self {
        let length = Some(argument);
        Self { length, ..self }
    }
}

macro_rules! changing {
    ($($name:ident $names:expr $(, $property:ident($($value:expr),+))* ;)*) => {
        &[$(
            Changing::new(libc::$name, trimmed(stringify!($name)), $names)$(.$property($($value),+))*,
        )*]
    };
}

/// `write` of `SYS_write`.
const fn trimmed(constant: &'static str) -> &'static str {
    constant.split_at(4).1
}

/// Bits of `open` that change the file system.
const CREATES: u32 = (libc::O_CREAT | libc::O_TRUNC).cast_unsigned();

use Names::{At, Ats, Fd, Nothing, Path, Paths};

/// All that change files, directories, attributes, mounts or devices, or make such changes durable.
pub(crate) const CHANGING: &[Changing] = changing![
    SYS_write Fd(0), length(2);
    SYS_pwrite64 Fd(0), length(2);
    SYS_writev Fd(0);
    SYS_pwritev Fd(0);
    SYS_pwritev2 Fd(0);
    SYS_copy_file_range Fd(2), length(4);
    SYS_sendfile Fd(0), length(3);
    SYS_splice Fd(2), length(4);
    SYS_fallocate Fd(0);
    SYS_ftruncate Fd(0);
    SYS_truncate Path(0);
    SYS_open Path(0), when(When::Bits(1, CREATES));
    SYS_creat Path(0);
    SYS_openat At(0, 1), when(When::Bits(2, CREATES));
    SYS_openat2 At(0, 1), when(When::OpenHow(2));
    SYS_mkdir Path(0);
    SYS_mkdirat At(0, 1);
    SYS_mknod Path(0);
    SYS_mknodat At(0, 1);
    SYS_rename Paths(0, 1);
    SYS_renameat Ats(0, 1, 2, 3);
    SYS_renameat2 Ats(0, 1, 2, 3);
    SYS_link Paths(0, 1);
    SYS_linkat Ats(0, 1, 2, 3);
    SYS_unlink Path(0);
    SYS_unlinkat At(0, 1);
    SYS_rmdir Path(0);
    SYS_symlink Path(1);
    SYS_symlinkat At(1, 2);
    SYS_chmod Path(0);
    SYS_fchmod Fd(0);
    SYS_fchmodat At(0, 1);
    SYS_fchmodat2 At(0, 1);
    SYS_chown Path(0);
    SYS_fchown Fd(0);
    SYS_lchown Path(0);
    SYS_fchownat At(0, 1);
    SYS_utime Path(0);
    SYS_utimes Path(0);
    SYS_futimesat At(0, 1);
    SYS_utimensat At(0, 1);
    SYS_setxattr Path(0);
    SYS_lsetxattr Path(0);
    SYS_fsetxattr Fd(0);
    SYS_removexattr Path(0);
    SYS_lremovexattr Path(0);
    SYS_fremovexattr Fd(0);
    SYS_fsync Fd(0);
    SYS_fdatasync Fd(0);
    SYS_syncfs Fd(0);
    SYS_sync Nothing;
    SYS_sync_file_range Fd(0);
    SYS_msync Nothing;
    SYS_ioctl Fd(0), when(When::Request(1));
    SYS_mount Path(1);
    SYS_umount2 Path(0);
    SYS_move_mount Ats(0, 1, 2, 3);
    SYS_open_tree At(0, 1), when(When::Bits(2, 1));
    SYS_fsopen Nothing;
    SYS_fsmount Nothing;
    SYS_mount_setattr At(0, 1);
    SYS_pivot_root Paths(0, 1);
    SYS_unshare Nothing;
    SYS_setns Nothing;
    SYS_mmap Nothing, when(When::Bits(3, SHARED));
];

/// A mapping through which a file could be changed without a call. The tracer refuses one that can be written.
const SHARED: u32 = libc::MAP_SHARED.cast_unsigned();

/// Requests of `ioctl` that only ask: of a terminal, of a device's size, of a file's flags and extents, of loop and
/// device-mapper devices. Source: linux v6.6 `include/uapi/asm-generic/ioctls.h`, `include/uapi/linux/`: `fs.h`, `fiemap.h`,
/// `hdreg.h`, `cdrom.h`, `sed-opal.h`, `loop.h`, `dm-ioctl.h`.
pub(crate) const ASKING: &[u64] = &[
    0x5401,      // TCGETS
    0x5413,      // TIOCGWINSZ
    0x0301,      // HDIO_GETGEO
    0x5331,      // CDROM_GET_CAPABILITY
    0x125e,      // BLKROGET
    0x1260,      // BLKGETSIZE
    0x1268,      // BLKSSZGET
    0x1278,      // BLKIOMIN
    0x1279,      // BLKIOOPT
    0x127a,      // BLKALIGNOFF
    0x127b,      // BLKPBSZGET
    0x127c,      // BLKDISCARDZEROES
    0x8008_1272, // BLKGETSIZE64
    0x8008_1280, // BLKGETDISKSEQ
    0x8004_1284, // BLKGETZONESZ
    0x8004_1285, // BLKGETNRZONES
    0x8008_70ec, // IOC_OPAL_GET_STATUS
    0x8008_6601, // FS_IOC_GETFLAGS
    0xc020_660b, // FS_IOC_FIEMAP
    0x4c05,      // LOOP_GET_STATUS64
    0xc138_fd00, // DM_VERSION
    0xc138_fd02, // DM_LIST_DEVICES
    0xc138_fd07, // DM_DEV_STATUS
    0xc138_fd0b, // DM_TABLE_DEPS
    // Although a pool may commit before it answers: it is asked in time with the clock too.
    0xc138_fd0c, // DM_TABLE_STATUS
    0xc138_fd0d, // DM_LIST_VERSIONS
    0xc138_fd11, // DM_GET_TARGET_VERSION
];

/// Requests that change something, for reports. Source: as above.
const REQUESTS: &[(u64, &str)] = &[
    (0x4020_940d, "FICLONERANGE"),
    (0x1261, "BLKFLSBUF"),
    (0x4c00, "LOOP_SET_FD"),
    (0x4c01, "LOOP_CLR_FD"),
    (0x4c04, "LOOP_SET_STATUS64"),
    (0x4c08, "LOOP_SET_DIRECT_IO"),
    (0x4c0a, "LOOP_CONFIGURE"),
    (0x4c82, "LOOP_CTL_GET_FREE"),
    (0xc138_fd03, "DM_DEV_CREATE"),
    (0xc138_fd04, "DM_DEV_REMOVE"),
    (0xc138_fd06, "DM_DEV_SUSPEND"),
    (0xc138_fd09, "DM_TABLE_LOAD"),
    (0xc138_fd0e, "DM_TARGET_MSG"),
];

/// What a request of `ioctl` is called.
pub(crate) fn request(number: u64) -> String {
    let known = REQUESTS.iter().find(|(known, _)| *known == number);
    known.map_or_else(|| format!("{number:#x}"), |(_, name)| (*name).to_owned())
}

/// Calls that are known to change nothing that outlives the process, the most frequent ones first. A call in neither list
/// ends the trace: whoever makes the tool use it says here what it is.
pub(crate) const HARMLESS: &[i64] = &[
    libc::SYS_read,
    libc::SYS_close,
    libc::SYS_statx,
    libc::SYS_pread64,
    libc::SYS_newfstatat,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_getdents64,
    libc::SYS_llistxattr,
    libc::SYS_lgetxattr,
    libc::SYS_listxattr,
    libc::SYS_getxattr,
    libc::SYS_flistxattr,
    libc::SYS_fgetxattr,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_fcntl,
    libc::SYS_lseek,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getppid,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_fstat,
    libc::SYS_access,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_readv,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_readahead,
    libc::SYS_fadvise64,
    libc::SYS_flock,
    libc::SYS_dup,
    libc::SYS_dup2,
    libc::SYS_dup3,
    libc::SYS_pipe,
    libc::SYS_pipe2,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_select,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd2,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_shutdown,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_execve,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_kill,
    libc::SYS_tgkill,
    libc::SYS_tkill,
    libc::SYS_pidfd_open,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    // Whether there are semaphores. Cookies for udev would be made with others, which are in no list.
    libc::SYS_semctl,
    libc::SYS_arch_prctl,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_getrlimit,
    libc::SYS_getrusage,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_time,
    libc::SYS_times,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_umask,
    libc::SYS_setpgid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getpriority,
    libc::SYS_setpriority,
    libc::SYS_ioprio_set,
    libc::SYS_restart_syscall,
];
