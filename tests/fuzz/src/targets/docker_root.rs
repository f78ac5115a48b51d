//! A whole Docker root: parent lists, ids, configs and stores, and what they say of each other.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use aufs2dm::docker::{Inventory, Orphans, Root, Survey};
use tempfile::TempDir;

use super::files::{pieces, place, put, remove};

/// The files, in the order of their letters: two layers, an image of them, and a container with its two layers.
const FILES: [&str; 26] = [
    "containers/6bda968a82ca5d57d05accf94780d4b64434edde4985947496ba3793395eff3a/config.v2.json",
    "containers/6bda968a82ca5d57d05accf94780d4b64434edde4985947496ba3793395eff3a/hostconfig.json",
    "containers/6bda968a82ca5d57d05accf94780d4b64434edde4985947496ba3793395eff3a/config.json",
    "image/aufs/repositories.json",
    "image/aufs/imagedb/content/sha256/3d4c679b9aebc125d8d90e9b78183af86074061d720c3a3ec40a535c1f386484",
    "image/aufs/layerdb/sha256/1111111111111111111111111111111111111111111111111111111111111111/cache-id",
    "image/aufs/layerdb/sha256/1111111111111111111111111111111111111111111111111111111111111111/diff",
    "image/aufs/layerdb/sha256/1111111111111111111111111111111111111111111111111111111111111111/size",
    "image/aufs/layerdb/sha256/1111111111111111111111111111111111111111111111111111111111111111/tar-split.json.gz",
    "image/aufs/layerdb/sha256/9932074217c35353d2e03a3f5a86549f7c67bfeb0ba53e23d69f4d4c8f7958f5/cache-id",
    "image/aufs/layerdb/sha256/9932074217c35353d2e03a3f5a86549f7c67bfeb0ba53e23d69f4d4c8f7958f5/diff",
    "image/aufs/layerdb/sha256/9932074217c35353d2e03a3f5a86549f7c67bfeb0ba53e23d69f4d4c8f7958f5/parent",
    "image/aufs/layerdb/sha256/9932074217c35353d2e03a3f5a86549f7c67bfeb0ba53e23d69f4d4c8f7958f5/size",
    "image/aufs/layerdb/mounts/6bda968a82ca5d57d05accf94780d4b64434edde4985947496ba3793395eff3a/mount-id",
    "image/aufs/layerdb/mounts/6bda968a82ca5d57d05accf94780d4b64434edde4985947496ba3793395eff3a/init-id",
    "image/aufs/layerdb/mounts/6bda968a82ca5d57d05accf94780d4b64434edde4985947496ba3793395eff3a/parent",
    "aufs/layers/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "aufs/layers/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    "aufs/layers/cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc-init",
    "aufs/layers/cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc",
    "aufs/layers/z889rt0gumm9yu7x8couv1wlu",
    "aufs/diff/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "aufs/diff/cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc",
    "image/aufs/imagedb/content/sha256/unknown",
    "image/aufs/layerdb/sha256/tmp",
    "aufs/mnt/x-removing",
];

/// What stands in them: a root without a fault. A file beyond these is not there.
const GOOD: [&str; 20] = [
    r#"{"ID":"6bda968a82ca5d57d05accf94780d4b64434edde4985947496ba3793395eff3a","Name":"/web","Driver":"aufs","Image":"sha256:3d4c679b9aebc125d8d90e9b78183af86074061d720c3a3ec40a535c1f386484","State":{"Running":false,"Pid":0,"StartedAt":"2026-11-20T18:39:10Z"},"MountPoints":{}}"#,
    r#"{"RestartPolicy":{"Name":"always","MaximumRetryCount":0},"AutoRemove":false}"#,
    "",
    r#"{"Repositories":{"lab/app":{"lab/app:1":"sha256:3d4c679b9aebc125d8d90e9b78183af86074061d720c3a3ec40a535c1f386484"}}}"#,
    r#"{"rootfs":{"type":"layers","diff_ids":["sha256:1111111111111111111111111111111111111111111111111111111111111111","sha256:2222222222222222222222222222222222222222222222222222222222222222"]}}"#,
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "sha256:1111111111111111111111111111111111111111111111111111111111111111",
    "100",
    "not read here, but not empty",
    "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    "sha256:2222222222222222222222222222222222222222222222222222222222222222",
    "sha256:1111111111111111111111111111111111111111111111111111111111111111",
    "100",
    "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc",
    "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc-init",
    "sha256:9932074217c35353d2e03a3f5a86549f7c67bfeb0ba53e23d69f4d4c8f7958f5",
    "",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n",
    "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n",
    "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc-init\nbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n",
];

/// The file that a good root does not have: the config of Docker up to 1.9.
const LEGACY: usize = 2;

thread_local! {
    /// A good root. To make one for each input would take most of the time.
    static ROOT: TempDir = {
        let root = tempfile::tempdir().expect("the disk has room");
        for list in &FILES[16..20] {
            let branch = root.path().join(list.replace("layers", "diff"));
            fs::create_dir_all(branch).expect("the disk has room");
        }
        for at in 0..FILES.len() {
            make_good(root.path(), at);
        }
        root
    };
}

/// Makes of a file what it is in a good root.
fn make_good(root: &Path, at: usize) {
    let path = root.join(FILES[at]);
    fs::create_dir_all(path.parent().expect("it is below the root")).expect("the disk has room");
    remove(&path);
    if FILES[at].starts_with("aufs/diff") {
        fs::create_dir(path).expect("nothing is there");
    } else if let Some(content) = GOOD.get(at).filter(|_| at != LEGACY) {
        fs::write(path, content).expect("the disk has room");
    }
}

/// Any root is read to the end, and whatever is wrong can be told. In a model, parents come before children, and no id leads out
/// of the root.
///
/// The input is a list of files that replace those of a good root.
pub(super) fn docker_root(input: &[u8]) {
    ROOT.with(|root| {
        let root = root.path();
        for piece in pieces(input) {
            put(root, &FILES, piece);
        }
        read(root, input);
        for (letter, _) in pieces(input) {
            make_good(root, place(&FILES, letter));
        }
    });
}

fn read(path: &Path, input: &[u8]) {
    let Ok(root) = Root::open(path) else {
        return;
    };
    let survey = Survey::read(&root);
    for problem in survey.problems() {
        assert!(!problem.to_string().is_empty());
    }
    for warning in survey.warnings() {
        assert!(!warning.to_string().is_empty());
    }
    if let Ok(inventory) = Inventory::new(root.data_dir(), &survey) {
        assert!(serde_json::to_string(&inventory).is_ok());
    }
    let is_sound = survey.problems().is_empty();
    assert!(is_sound || !input.is_empty(), "the root is good");
    let both = [Orphans::Convert, Orphans::LeaveOut];
    let model = survey.into_model(both[input.len() % 2]);
    assert!(model.is_ok() || !is_sound);
    let Ok(model) = model else {
        return;
    };
    let mut seen = BTreeSet::new();
    for (at, layer) in model.aufs.iter().enumerate() {
        assert!(layer.parent.is_none_or(|parent| parent < at));
        let name = layer.id.as_str();
        assert!(!name.is_empty() && !name.contains('/') && !name.starts_with('.'));
        assert!(seen.insert(name), "{name} comes twice");
    }
}
