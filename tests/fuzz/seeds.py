#!/usr/bin/env python3
"""Makes the seeds in corpus/ from fixtures/: seeds.py AUFS2DM, as root, with a built aufs2dm for the records of a conversion.

Inputs whose names begin with `found-` once broke a target and are not made here; they stay.
"""
import gzip
import json
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
FIXTURES = HERE.parent.parent / "fixtures"
MOST = 8000  # bytes of a seed: the fuzzer takes no more


def write(target, name, content):
    content = content.encode() if isinstance(content, str) else content
    if len(content) <= MOST:
        (HERE / "corpus" / target / name).write_bytes(content)


def trimmed(value):
    """The value with few of the members that are there for each layer or file."""
    if isinstance(value, dict):
        names = list(value)
        many = len(names) > 3 and sum(bool(re.search("[0-9a-f]{20}|/", name)) for name in names) > len(names) // 2
        return {name: trimmed(value[name]) for name in names[: 2 if many else None]}
    if isinstance(value, list):
        return [trimmed(one) for one in value[:4]]
    return value


def unpack(fixture, into):
    command = ["tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", FIXTURES / fixture, "-C", into]
    subprocess.run(command, check=True)


def docker(root, converted):
    """Docker's own files."""
    for nth, path in enumerate(sorted(root.glob("containers/*/*.json"))):
        write("docker_json", f"container-{nth}", path.read_bytes())
    for nth, path in enumerate(sorted(root.glob("image/aufs/imagedb/content/sha256/*"))[::8]):
        write("docker_json", f"image-{nth}", path.read_bytes())
    write("docker_json", "repositories", (root / "image/aufs/repositories.json").read_bytes())
    settings = {"storage-driver": "aufs", "storage-opts": ["dm.basesize=5G", "x"], "log-opts": {"max-size": "10m"}}
    write("docker_json", "daemon", json.dumps(settings, indent=4))
    write("docker_json", "several-drivers", '{"driver":"aufs", "Driver" : null,"\\u0044river":"","A":1e400,"x":[{}]}')
    splits = sorted(root.glob("image/aufs/layerdb/sha256/*/tar-split.json.gz"), key=lambda path: path.stat().st_size)
    for nth, path in enumerate(splits[::5]):
        write("tar_split", f"gzip-{nth}", b"\1" + path.read_bytes())
        write("tar_split", f"text-{nth}", b"\0" + gzip.decompress(path.read_bytes()))
    for name in ["base", "deviceset-metadata", "transaction-metadata"]:
        write("driver_files", name, (converted / "devicemapper/metadata" / name).read_bytes())
    device = next(path for path in sorted((converted / "devicemapper/metadata").iterdir()) if len(path.name) == 64)
    write("driver_files", "device", device.read_bytes())


def parts(*files):
    """Several files in one input: the letter of each, and its content."""
    return b"\0".join(letter.encode() + content.encode() for letter, content in files)


def roots(root):
    ids = ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "b" * 64, "c" * 64]
    config = next(path for path in sorted(root.glob("containers/*/config.v2.json")) if path.stat().st_size < MOST)
    host = sorted(root.glob("containers/*/hostconfig.json"))[0]
    write("docker_root", "good", "")
    write("docker_root", "container", parts(("@", config.read_text()), ("A", host.read_text())))
    write("docker_root", "legacy", parts(("B", '{"Driver":"aufs","ID":"x"}')))
    write("docker_root", "circle", parts(("Q", f"{ids[1]}\n"), ("P", f"{ids[1]}\n{ids[0]}\n")))
    write("docker_root", "lists", parts(("S", f"{ids[2]}-init\n{ids[0]}\n"), ("T", f"{ids[1]}\n{ids[0]}\n"), ("R", "")))
    write("docker_root", "stores", parts(("E", "../x"), ("J", ids[0]), ("K", "sha256:1"), ("L", "9"), ("O", "")))
    write("docker_root", "names", parts(("C", '{"Repositories":{"a":{"a:1":"sha256:' + "5" * 64 + '"}}}'), ("D", "{}")))
    links = bytes([0xC5, 0, 0xE6, 0, 0xA7, 0, 0x88, 0, 0xCC, 0, 0xA0])
    write("docker_root", "links", links)


def hosts():
    unit = (
        "[Unit]\nAfter=x\n[Service]\nEnvironment=\"A=-s aufs\" B=x\nEnvironmentFile=-/etc/default/docker\n"
        "ExecStart=/usr/bin/dockerd \\\n  # between\n  -H fd:// --storage-opt=dm.fs=xfs $A ${OPTIONS} 'quo\\x20ted'\n"
    )
    config = '{\n    "storage-driver": "aufs",\n    "storage-opts": ["dm.basesize=5G"],\n    "data-root": "/srv"\n}\n'
    shell = "export DOCKER_OPTS=\"-s aufs --graph=$A\" # c\nDOCKER_PIDFILE=/run/d.pid\nA='x y'\nA=$A$A;\n"
    write("daemon", "upstream", parts(("A", "[Service]\nExecStart=/usr/bin/dockerd\n"), ("@", config)))
    write("daemon", "debian", parts(("A", unit), ("C", 'OPTIONS="-s aufs"\n'), ("@", "{}")))
    write("daemon", "centos", parts(("A", unit), ("D", "OPTIONS='-g /srv'\n"), ("E", "A=--storage-driver overlay2\n")))
    write("daemon", "scripts", parts(("C", shell), ("F", shell), ("G", "script\n" + shell), ("@", " ")))
    write("daemon", "override", parts(("A", unit), ("B", "[Service]\nExecStart=\nExecStart=-/usr/bin/dockerd -p /x.pid\n")))
    write("daemon", "other", parts(("H", unit.replace("/usr", "/opt")), ("K", config), ("I", "Package: docker.io\nStatus: install ok installed\nVersion: 20.10.24+dfsg1-1\n\n")))
    flag = "[Service]\nExecStart=/usr/bin/dockerd --config-file /etc/docker/other.json\n"
    write("daemon", "named", parts(("A", flag), ("K", config)))
    write("daemon", "links", bytes([0xC0, 0, 0xE1, 0, 0xA3]))


def records(tool, root, place):
    """The records of a conversion and a commit, with most of what there is for each layer left out."""
    (place / "host/etc/docker").mkdir(parents=True)
    (place / "host/etc/docker/daemon.json").write_text("{}\n")
    options = ["--root", root, "--host-root", place / "host", "--pidfile", place / "pid"]
    run = lambda command, *more: subprocess.run([tool, command, *options, *more], check=True, stdout=subprocess.DEVNULL)
    run("convert", "--switch-daemon")
    run("verify", "--full")
    lines = (root / ".aufs2dm/journal").read_text().splitlines()
    run("commit", "--yes")
    journal = [trimmed(json.loads(line)) for line in lines]
    for line in journal:
        del line["crc64"]
        line.pop("aufs", None)
    committed = trimmed(json.loads((root / ".aufs2dm.json").read_text()))
    committed["order"] = {}
    write("stage", "committed", parts(("r", json.dumps(committed))))
    text = lambda all: "".join(json.dumps(one, separators=(",", ":")) + "\n" for one in all)
    begun, durable, entries, switching, *rest = journal
    moved = {"image"} | {step["to"].rpartition("/")[0] for step in switching["moves"]}
    switching["times"] = [times for times in switching["times"] if times["path"] in moved]
    begun["order"] = {}
    ends = {
        "verified": [switching, *rest],
        "rolling-back": [switching, {"record": "taken-back"}, {"record": "rolling-back", "aufs_times": "x"}],
        "committing": [switching, *rest, {"record": "committing", "in_two_steps": True}, {"record": "removing"}],
        "undone": [durable, entries, {"record": "undone"}, durable],
        "beside": [{"record": "beside", "id": "6f1c4a1e-7a0c-4c1b-9a71-0b8d3a3c9f10", "times": {"path": "containers",
                    "accessed": [1, 2], "modified": [3, 4]}}, {"record": "nothing-beside"}],
    }
    for name, end in ends.items():
        write("stage", name, parts(("J", text([begun, *end]))))
    write("stage", "as-it-stands", parts(("j", "\n".join(lines[1:2]) + "\n"), ("p", '{"pid":1,"phase":"data","done":3,"total":9}')))
    pool = {"target": "thin-pool", "name": "vg-pool", "uuid": None, "transaction_id": 3, "first_thin_id": 7,
            "last_thin_id": 30, "boot_id": "x", "base_uuid": "6f1c4a1e-7a0c-4c1b-9a71-0b8d3a3c9f10"}
    device = lambda path, identity: {"path": path, "identity": identity}
    devices = {"target": "devices", "data": device("/dev/sdb", {"block-device": {"rdev": 2064}}),
               "metadata": device("/srv/m", {"file": {"dev": 1, "inode": 2}}), "last_thin_id": 9, "boot_id": "x"}
    write("stage", "thin-pool", parts(("c", json.dumps(pool))))
    write("stage", "devices", parts(("c", json.dumps(devices))))


def changes(choice, *records):
    """A choice of the image that is changed, and the changes: what, which chunk, at which offset, the value."""
    return bytes([choice]) + b"".join(struct.pack("<BHHQ", *record) for record in records)


def images():
    for choice in range(5):
        write("ext4", f"good-{choice}", changes(choice))
        write("ext4", f"superblock-{choice}", changes(choice, (2, 1, 0x60, 0x246), (1, 1, 0x58, 256)))
        write("ext4", f"copies-{choice}", changes(choice, (4, 9, 0, 12), (7, 12, 0, 100)))
        write("ext4", f"numbers-{choice}", changes(choice, (2, 7, 40, 0xFFFFFFFF), (1, 20, 4, 8), (0, 22, 6, 255)))
    for choice in range(3):
        write("thin", f"good-{choice}", changes(choice))
        write("thin", f"roots-{choice}", changes(choice, (3, 0, 320, 5), (3, 0, 328, 6)))
        write("thin", f"snapshot-{choice}", changes(choice, (7, 0, 0, 200), (3, 0, 56, 200)))
        write("thin", f"nodes-{choice}", changes(choice, (4, 3, 0, 4), (2, 2, 16, 9), (3, 1, 2048, 1 << 24)))
    write("thin", "unsealed", changes(0x80, (6, 2, 100, 1)))


def main():
    tool = pathlib.Path(sys.argv[1]).resolve()
    for target in ["daemon", "docker_json", "docker_root", "driver_files", "ext4", "stage", "tar_split", "thin"]:
        folder = HERE / "corpus" / target
        folder.mkdir(parents=True, exist_ok=True)
        for seed in folder.iterdir():
            if not seed.name.startswith("found-"):
                seed.unlink()
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        for name, fixture in [("aufs", "small.tar.xz"), ("made", "small-dm.tar.zst")]:
            (place / name).mkdir()
            unpack(fixture, place / name)
        root = place / "aufs/docker"
        docker(root, place / "made/docker")
        roots(root)
        records(tool, root, place)
    hosts()
    images()


main()
