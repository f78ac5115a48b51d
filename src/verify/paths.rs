//! Names for inodes in messages.

use std::collections::{HashMap, HashSet};

use super::layer_report::shown_path;
use crate::content::{DeviceTree, is_directory};
use crate::ext4::Ino;
use crate::ext4::read::View;

/// A text for each inode: its first path in the layer's tree, and its number. This costs a walk over the names of the
/// tree.
pub(super) fn shown(view: &View, inodes: &[Ino]) -> Vec<String> {
    let wanted: HashSet<Ino> = inodes.iter().copied().collect();
    let rootfs = DeviceTree::of(view).map(|tree| tree.rootfs);
    let names = rootfs.map_or_else(HashMap::new, |rootfs| first_names(view, rootfs, &wanted));
    let text = |ino: &Ino| match path(&names, *ino) {
        Some(path) => format!("{} (inode {})", shown_path(&path), ino.0),
        None => format!("inode {}", ino.0),
    };
    inodes.iter().map(text).collect()
}

/// The location of an inode's name: the directory, and the name in it.
type ParentName<'a> = (Ino, &'a [u8]);

/// The first names of all directories, and of the wanted inodes.
fn first_names<'a>(
    view: &'a View,
    rootfs: Ino,
    wanted: &HashSet<Ino>,
) -> HashMap<Ino, ParentName<'a>> {
    let mut names = HashMap::new();
    let mut pending = vec![rootfs];
    while let Some(directory) = pending.pop() {
        for (name, ino) in view.names(directory) {
            let is_directory = is_directory(view, ino);
            if ino == rootfs || names.contains_key(&ino) || !(is_directory || wanted.contains(&ino))
            {
                continue;
            }
            names.insert(ino, (directory, name));
            if is_directory {
                pending.push(ino);
            }
        }
    }
    names
}

fn path(names: &HashMap<Ino, ParentName<'_>>, ino: Ino) -> Option<Vec<u8>> {
    let mut components = Vec::new();
    let mut named = names.get(&ino)?;
    loop {
        components.push(named.1);
        match names.get(&named.0) {
            Some(above) => named = above,
            None => break,
        }
    }
    components.reverse();
    Some(components.join(&b'/'))
}
