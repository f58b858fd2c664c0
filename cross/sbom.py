"""What is inside a target's package, binary and models: a CycloneDX 1.5 bill of materials, and every licence text.

Usage: sbom.py TARGET OUT_FOLDER; writes sbom.cdx.json and THIRD-PARTY.txt. From `cargo metadata` for that target
and the features of a device, build-time crates left out. No time stamps: the same tree gives the same bytes.
"""

import hashlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Linked in by the tools, in no lock file.
TOOLS = [
    {"name": "rust-std", "license": "MIT OR Apache-2.0", "of": "the Rust compiler"},
    {"name": "musl", "license": "MIT", "of": "zig"},
    {"name": "compiler-rt and libunwind", "license": "Apache-2.0 WITH LLVM-exception", "of": "zig"},
]


def packages(target):
    """Metadata of every package that ends in the binary, the root first."""
    words = ["cargo", "metadata", "--format-version", "1", "--locked", "--no-default-features", "--features", "daemon",
             "--filter-platform", target]  # fmt: skip
    metadata = json.loads(subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    by_id = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    seen, waiting = {}, [root]
    while waiting:
        name = waiting.pop()
        if name in seen or any("proc-macro" in target["kind"] for target in by_id[name]["targets"]):
            continue
        normal = [
            dep["pkg"] for dep in nodes[name]["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"])
        ]
        seen[name] = normal
        waiting += normal
    order = sorted(seen, key=lambda name: (name != root, by_id[name]["name"], by_id[name]["version"]))
    return [(by_id[name], [by_id[dep] for dep in seen[name] if dep in seen]) for name in order]


def models():
    """The cards of the models that a package brings along."""
    return [tomllib.loads(card.read_text()) for card in sorted(ROOT.glob("models/*/model.toml"))]


def purl(package):
    # What this project keeps under another's name is not the other's.
    ours = package["source"] is None and package["name"] != "lineside"
    return f"pkg:{'generic/lineside' if ours else 'cargo'}/{package['name']}@{package['version']}"


def licence_of(package):
    # The older way to say "or".
    return (package["license"] or "").replace("/", " OR ") or f"file {package['license_file']}"


def bill(target, found):
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    sums = {(entry["name"], entry["version"]): entry.get("checksum") for entry in lock["package"]}

    def component(package, kind="library"):
        entry = {
            "type": kind,
            "bom-ref": purl(package),
            "name": package["name"],
            "version": package["version"],
            "licenses": [{"expression": licence_of(package)}],
            "purl": purl(package),
        }
        checksum = sums.get((package["name"], package["version"]))
        return entry | ({"hashes": [{"alg": "SHA-256", "content": checksum}]} if checksum else {})

    (root, _), *others = found
    text = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": component(root, "application"),
            "properties": [{"name": "target", "value": target}],
        },
        "components": [component(package) for package, _ in others]
        + [
            {"type": "library", "name": tool["name"], "description": f"as of {tool['of']}",
             "licenses": [{"expression": tool["license"]}]}  # fmt: skip
            for tool in TOOLS
        ]
        + [
            {"type": "machine-learning-model", "name": card["name"], "version": card["version"], "description": card["summary"],
             "licenses": [{"expression": card["licence"]}],
             "hashes": [{"alg": "SHA-256", "content": card["graph"]["sha256"]}]}  # fmt: skip
            for card in models()
        ],
        "dependencies": [
            {"ref": purl(package), "dependsOn": sorted({purl(dep) for dep in deps})} for package, deps in found
        ],
    }
    digest = hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()
    text["serialNumber"] = "urn:uuid:" + "-".join((digest[:8], digest[8:12], "5" + digest[13:16], "8" + digest[17:20], digest[20:32]))  # fmt: skip
    return text


def licences(found):
    """One list of who is inside under which licence, then each different text once."""
    lines = ["What is inside this package, and under which licences.", ""]
    texts = {}
    for package, _ in found:
        name = f"{package['name']} {package['version']}"
        lines.append(f"{name}: {licence_of(package)}")
        folder = Path(package["manifest_path"]).parent
        for file in sorted(folder.rglob("*")):
            stem = file.name.upper()
            if file.is_file() and stem.startswith(("LICENSE", "LICENCE", "COPYING", "NOTICE", "COPYRIGHT")) \
                    and len(file.relative_to(folder).parts) <= 3 and "target" not in file.relative_to(folder).parts:  # fmt: skip
                texts.setdefault(file.read_text(errors="replace").strip(), []).append(name)
    lines += [f"{tool['name']} (as of {tool['of']}): {tool['license']}" for tool in TOOLS]
    lines += ["", "Its models; whom to name, and for what, stands in the README.md beside each:", ""]
    lines += [f"{card['name']} {card['version']}: {card['licence']}" for card in models()]
    for text, names in texts.items():
        lines += ["", "=" * 80, ", ".join(sorted(set(names))), "=" * 80, "", text]
    return "\n".join(lines) + "\n"


def main():
    target, out = sys.argv[1], Path(sys.argv[2])
    found = packages(target)
    silent = [package["name"] for package, _ in found if not (package["license"] or package["license_file"])]
    if silent:
        sys.exit(f"sbom: no licence is said by {', '.join(silent)}")
    (out / "sbom.cdx.json").write_text(json.dumps(bill(target, found), indent=1) + "\n")
    (out / "THIRD-PARTY.txt").write_text(licences(found))
    print(f"sbom: {len(found)} crates", file=sys.stderr)


main()
