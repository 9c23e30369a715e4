#!/usr/bin/env python3
"""Takes the times out of an image, so that what is the same has the same id: docker save IMAGE | timeless_image.py NAME:TAG | docker load

An image's id is the digest of its configuration, which says when each step ran and who built it. What is written has one date for
everything (SOURCE_DATE_EPOCH), only the settings a container is started with, and one order. It is an OCI layout with the
`manifest.json` of `docker save` beside it, so that every Docker and every OCI tool reads it.
"""

import datetime
import hashlib
import io
import json
import os
import sys
import tarfile

# What decides how a container starts; builders add empty fields and ids of intermediate containers.
SETTINGS = ("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal")


def main(tag):
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    saved = tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read()))
    (image,) = json.load(saved.extractfile("manifest.json"))
    before = json.load(saved.extractfile(image["Config"]))
    layers = [timeless_layer(saved.extractfile(layer).read(), epoch) for layer in image["Layers"]]
    config = as_json({
        "architecture": before["architecture"],
        "os": before["os"],
        "created": datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "config": {name: before["config"][name] for name in SETTINGS if before["config"].get(name)},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
    })
    sys.stdout.buffer.write(archive(tag, config, layers, epoch))


def timeless_layer(content, epoch):
    """The same files, in one order, of one date, owned by root."""
    layer = tarfile.open(fileobj=io.BytesIO(content))
    files = [(member, layer.extractfile(member).read() if member.isreg() else b"") for member in layer.getmembers()]
    return pack(files, epoch)


def archive(tag, config, layers, epoch):
    blobs = {config, *layers}
    manifest = as_json({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer) for layer in layers],
    })
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            **descriptor("application/vnd.oci.image.manifest.v1+json", manifest),
            "annotations": {"io.containerd.image.name": f"docker.io/library/{tag}", "org.opencontainers.image.ref.name": tag.partition(":")[2]},
        }],
    }
    contents = {
        "oci-layout": as_json({"imageLayoutVersion": "1.0.0"}),
        "index.json": as_json(index),
        "manifest.json": as_json([{"Config": place(config), "RepoTags": [tag], "Layers": [place(layer) for layer in layers]}]),
        **{place(blob): blob for blob in (*blobs, manifest)},
    }
    return pack([(entry(name, content), content) for name, content in contents.items()], epoch)


def entry(name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member


def pack(files, epoch):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for member, content in sorted(files, key=lambda file: file[0].name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = epoch, 0, 0, "", ""
            member.pax_headers = {}
            tar.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return packed.getvalue()


def descriptor(media_type, blob):
    return {"mediaType": media_type, "digest": digest(blob), "size": len(blob)}


def place(blob):
    return f"blobs/sha256/{digest(blob).partition(':')[2]}"


def digest(blob):
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def as_json(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: docker save IMAGE | timeless_image.py NAME:TAG | docker load")
    main(sys.argv[1])
