"""What is inside a target's package, binary and models: a CycloneDX 1.5 bill of materials, and every licence text.

Usage: sbom.py TARGET OUT_FOLDER ZIG_FOLDER; writes sbom.cdx.json and THIRD-PARTY.txt. From `cargo metadata` for that
target and the features of a device, build-time crates left out, and from what the tools bring: the standard library and
zig's musl. No time stamps: the same tree and tools give the same bytes. A text that is not found is told, there and here.
"""

import hashlib
import html
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "COPYRIGHT", "UNLICENSE")


def texts_in(folder):
    """Every licence text in a folder of source."""
    return [file.read_text(errors="replace").strip() for file in sorted(folder.rglob("*"))
            if file.is_file() and file.name.upper().startswith(NAMES) and len(file.relative_to(folder).parts) <= 3
            and "target" not in file.relative_to(folder).parts]  # fmt: skip


def said(*words):
    """What a command prints, nothing where it is not there."""
    try:
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def version_in(pattern, text):
    found = re.search(pattern, text)
    return found[1] if found else None


def standard_library(target):
    """Version and texts of the compiler that `cross/build` takes: rustup's where it has the target, else Debian's."""
    sysroot = Path(said("rustc", "--print", "sysroot") or "/usr")
    if sysroot != Path("/usr") and (sysroot / "lib/rustlib" / target / "lib").is_dir():
        page = sysroot / "share/doc/rust/COPYRIGHT-library.html"
        text = html.unescape(re.sub("<[^>]*>", "", page.read_text())) if page.is_file() else ""
        return version_in(r"rustc (\S+)", said("rustc", "-V")), [re.sub(r"\s*\n\s*\n", "\n\n", text).strip()] if text else []
    version = version_in(r"rustc (\S+)", said("/usr/bin/rustc", "-V"))
    # Debian's source comes without licence files, and its library here is made of these crates.
    source = Path(f"/usr/src/rustc-{version}")
    built = {re.sub(r"^lib|-[0-9a-f]+$", "", file.stem) for file in Path("/usr/lib/rustlib").glob(f"{target}/lib/*.rlib")}
    own = source / "COPYRIGHT"
    if not built or not own.is_file():
        return version, []
    project = {"name": "Rust", "authors": ["The Rust Project Contributors"], "license": "MIT OR Apache-2.0"}
    texts = [own.read_text().strip(), *standard_texts(project)]
    for folder in sorted([*source.glob("library/vendor/*"), *source.glob("library/compiler-builtins/*")]):
        card = folder / "Cargo.toml"
        package = tomllib.loads(card.read_text()).get("package", {}) if card.is_file() else {}
        if package.get("name", "").replace("-", "_") in built | {"libm"}:  # part of compiler_builtins
            texts += texts_in(folder) or standard_texts({"authors": [], "license": ""} | package)
    return version, list(dict.fromkeys(texts))


def tools(target, zig):
    """What the tools link in, which stands in no lock file."""
    brought = next(zig.glob("lib/python3*/site-packages/ziglang"), zig)

    def texts(*names):
        return [(brought / name).read_text().strip() for name in names if (brought / name).is_file()]

    musl = brought / "lib/libc/musl/src/internal/version.h"
    installed = zig / "installed"
    of_zig = version_in(r"ziglang==(\S+)", installed.read_text() if installed.is_file() else "")
    rust, rust_texts = standard_library(target)
    found = [
        {"name": "rust-std", "version": rust, "license": "MIT OR Apache-2.0", "of": "the Rust compiler, with the crates that it is made of",
         "texts": rust_texts},
        {"name": "musl", "version": version_in(r'"(.*)"', musl.read_text()) if musl.is_file() else None, "license": "MIT",
         "of": "zig", "texts": texts("lib/libc/musl/COPYRIGHT")},
        {"name": "compiler-rt and libunwind", "version": of_zig, "license": "MIT AND Apache-2.0 WITH LLVM-exception",
         "of": "zig, whose version this is", "texts": texts("LICENSE", "lib/libunwind/LICENSE.TXT")},
    ]  # fmt: skip
    return found


def standard_texts(package):
    """The texts of a crate that brings none: ours for what is ours, else those that its licence names."""
    ours = package.get("source", "") is None
    own = {"MIT": (ROOT / "LICENSE-MIT").read_text().strip(), "Apache-2.0": (ROOT / "LICENSE-APACHE").read_text().strip()}
    if not ours:
        who = ", ".join(package["authors"]) or f"the authors of {package['name']}"
        own["MIT"] = re.sub(r"Copyright \(c\) .*", lambda _: f"Copyright (c) {who}", own["MIT"])
    return [text for licence, text in own.items() if licence in re.split(r"[ ()]+", licence_of(package))]


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


def bill(target, found, brought):
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
            {"type": "library", "name": tool["name"]} | ({"version": tool["version"]} if tool["version"] else {})
            | {"description": f"as of {tool['of']}", "licenses": [{"expression": tool["license"]}]}  # fmt: skip
            for tool in brought
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


def licences(found, brought):
    """One list of who is inside under which licence, then each different text once; and who has brought none."""
    lines = ["What is inside this package, and under which licences.", ""]
    texts, without = {}, []

    def take(name, those):
        for text in those:
            texts.setdefault(text, []).append(name)
        if not those:
            without.append(name)

    for package, _ in found:
        name = f"{package['name']} {package['version']}"
        lines.append(f"{name}: {licence_of(package)}")
        take(name, texts_in(Path(package["manifest_path"]).parent) or standard_texts(package))
    for tool in brought:
        name = " ".join(filter(None, (tool["name"], tool["version"])))
        lines.append(f"{name} (as of {tool['of']}): {tool['license']}")
        take(name, tool["texts"])
    lines += ["", "Its models; whom to name, and for what, stands in the README.md beside each:", ""]
    lines += [f"{card['name']} {card['version']}: {card['licence']}" for card in models()]
    if without:
        lines += ["", f"No licence text was found where this list was made, of: {', '.join(without)}."]
    for text, names in texts.items():
        lines += ["", "=" * 80, ", ".join(sorted(set(names))), "=" * 80, "", text]
    return "\n".join(lines) + "\n", without


def main():
    target, out, zig = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    found = packages(target)
    silent = [package["name"] for package, _ in found if not (package["license"] or package["license_file"])]
    if silent:
        sys.exit(f"sbom: no licence is said by {', '.join(silent)}")
    brought = tools(target, zig)
    (out / "sbom.cdx.json").write_text(json.dumps(bill(target, found, brought), indent=1) + "\n")
    text, without = licences(found, brought)
    (out / "THIRD-PARTY.txt").write_text(text)
    print(f"sbom: {len(found)} crates", file=sys.stderr)
    if without:
        print(f"sbom: no licence text was found of {', '.join(without)}; cross/build on this machine brings it", file=sys.stderr)


main()
