//! Docker's record of a layer, as pulling it would have left it: `DiffID` and tar-split.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use sha2::{Digest, Sha256};

const BLOCK: usize = 512;

/// Writes `layerdb/sha256/CHAIN` for a branch; gives chain and `DiffID`, as hex.
///
/// Source: moby v20.10.24 `layer/filestore.go`; vbatts/tar-split v0.12.1 `tar/storage/entry.go`.
pub(crate) fn record(
    image: &Path,
    branch: &Path,
    cache_id: &str,
    parent: Option<&str>,
) -> (String, String) {
    let split = image.join("tar-split.new");
    let diff_id = disassemble(branch, &split);
    let chain = parent.map_or_else(
        || diff_id.clone(),
        |parent| {
            format!(
                "{:x}",
                Sha256::digest(format!("sha256:{parent} sha256:{diff_id}"))
            )
        },
    );
    let dir = image.join("layerdb/sha256").join(&chain);
    fs::create_dir_all(&dir).expect("the store can be written");
    let write = |name: &str, text: &str| {
        fs::write(dir.join(name), text).expect("the store can be written");
    };
    write("diff", &format!("sha256:{diff_id}"));
    write("cache-id", cache_id);
    write("size", "0");
    if let Some(parent) = parent {
        write("parent", &format!("sha256:{parent}"));
    }
    fs::rename(split, dir.join("tar-split.json.gz")).expect("the store can be written");
    (chain, diff_id)
}

/// Writes an image of these layers and its name.
pub(crate) fn image(store: &Path, diff_ids: &[String]) {
    let diff_ids: Vec<_> = diff_ids.iter().map(|id| format!("sha256:{id}")).collect();
    let created = "2020-01-02T03:04:05Z";
    let history: Vec<_> = diff_ids
        .iter()
        .map(|_| json!({"created": created}))
        .collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": created, "config": {}, "history": history,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string();
    let id = format!("{:x}", Sha256::digest(&config));
    fs::write(store.join("imagedb/content/sha256").join(&id), config)
        .expect("the store can be written");
    let names = json!({"Repositories": {"bench": {"bench:1": format!("sha256:{id}")}}});
    fs::write(store.join("repositories.json"), names.to_string())
        .expect("the store can be written");
}

/// The branch's tar-split; gives the SHA-256 of the tar.
fn disassemble(branch: &Path, split: &Path) -> String {
    let mut tar = Command::new("tar")
        .args(["--format=ustar", "--sort=name", "-cf", "-", "usr"])
        .current_dir(branch)
        .stdout(Stdio::piped())
        .spawn()
        .expect("tar runs");
    let mut stream = Tar {
        from: BufReader::with_capacity(1 << 20, tar.stdout.take().expect("it is a pipe")),
        sum: Sha256::new(),
    };
    let file = File::create(split).expect("the store can be written");
    let mut out = GzEncoder::new(BufWriter::new(file), Compression::fast());
    let mut position = 0;
    let mut entry = |mut value: serde_json::Value| {
        value["position"] = json!(position);
        position += 1;
        writeln!(out, "{value}").expect("the store can be written");
    };
    let mut raw = Vec::new();
    loop {
        let header = stream.take(BLOCK);
        raw.extend_from_slice(&header);
        if header.iter().all(|&byte| byte == 0) {
            break;
        }
        entry(json!({"type": 2, "payload": base64(&raw)}));
        raw.clear();
        let name = text(&header[..100]);
        let size = usize::from_str_radix(text(&header[124..136]), 8).expect("tar writes numbers");
        if size == 0 {
            entry(json!({"type": 1, "name": name, "payload": null}));
        } else {
            let content = stream.take(size);
            let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64GoIso, &content);
            let payload = base64(&sum.to_be_bytes());
            entry(json!({"type": 1, "name": name, "size": size, "payload": payload}));
            raw = stream.take(size.next_multiple_of(BLOCK) - size);
        }
    }
    raw.extend(stream.rest());
    entry(json!({"type": 2, "payload": base64(&raw)}));
    out.finish()
        .and_then(|mut file| file.flush())
        .expect("the store can be written");
    assert!(
        tar.wait().expect("tar ends").success(),
        "tar reads the branch"
    );
    format!("{:x}", stream.sum.finalize())
}

struct Tar<R> {
    from: R,
    sum: Sha256,
}

impl<R: Read> Tar<R> {
    fn take(&mut self, bytes: usize) -> Vec<u8> {
        let mut taken = vec![0; bytes];
        self.from
            .read_exact(&mut taken)
            .expect("tar writes whole entries");
        self.sum.update(&taken);
        taken
    }

    fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.from
            .read_to_end(&mut rest)
            .expect("tar's output can be read");
        self.sum.update(&rest);
        rest
    }
}

fn text(field: &[u8]) -> &str {
    let end = field.iter().position(|&byte| byte == 0 || byte == b' ');
    std::str::from_utf8(&field[..end.unwrap_or(field.len())]).expect("the bench's names are ASCII")
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, n| {
            bits << 8 | u32::from(*part.get(n).unwrap_or(&0))
        });
        for digit in 0..4 {
            let index = usize::try_from(bits >> (18 - 6 * digit) & 63).expect("six bits");
            text.push(if digit <= part.len() {
                DIGITS[index].into()
            } else {
                '='
            });
        }
    }
    text
}
