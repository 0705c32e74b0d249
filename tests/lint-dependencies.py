#!/usr/bin/env python3
"""Checks the dependencies against deny.toml, offline: licences, duplicates, and their sentences.

Standard library only. cargo-deny checks the same file, and the advisories beside.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main():
    deny = tomllib.loads((ROOT / "deny.toml").read_text())
    packages = [package for package in metadata()["packages"] if package["source"]]
    problems = [
        *licence_problems(packages, set(deny["licenses"]["allow"])),
        *duplicate_problems(packages, deny["bans"]["skip"]),
        *sentence_problems((ROOT / "Cargo.toml").read_text()),
    ]
    for problem in problems:
        print(f"lint-dependencies: {problem}", file=sys.stderr)
    if problems:
        return 1
    print(f"lint-dependencies: {len(packages)} packages are as deny.toml wants them")
    return 0


def metadata():
    command = [os.environ.get("CARGO", "cargo"), "metadata", "--locked", "--format-version", "1"]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def licence_problems(packages, allowed):
    for package in packages:
        name = f"{package['name']} {package['version']}"
        expression = package["license"]
        if not expression:
            yield f"{name} names no licence"
        else:
            try:
                if not is_satisfied(expression, allowed):
                    yield f"{name}: deny.toml does not allow `{expression}`"
            except ValueError as error:
                yield f"{name}: cannot read the licence `{expression}`: {error}"


def is_satisfied(expression, allowed):
    """Evaluates an SPDX expression; AND binds closer than OR, and `/` is an old OR."""
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))

    def either():
        satisfied = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            satisfied = both() or satisfied
        return satisfied

    def both():
        satisfied = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            satisfied = one() and satisfied
        return satisfied

    def one():
        if not tokens or tokens[0] in (")", "OR", "AND", "WITH"):
            raise ValueError("a licence is missing")
        token = tokens.pop(0)
        if token == "(":
            satisfied = either()
            if not tokens or tokens.pop(0) != ")":
                raise ValueError("`)` is missing")
            return satisfied
        if tokens[:1] == ["WITH"]:
            if len(tokens) < 2:
                raise ValueError("an exception is missing")
            token = f"{token} WITH {tokens[1]}"
            del tokens[:2]
        return token in allowed

    satisfied = either()
    if tokens:
        raise ValueError(f"`{tokens[0]}` is unexpected")
    return satisfied


def duplicate_problems(packages, skips):
    """Of each crate one version, beside those that deny.toml skips; and no skip without need."""
    versions = defaultdict(set)
    for package in packages:
        versions[package["name"]].add(package["version"])
    skipped = defaultdict(set)
    for skip in skips:
        name, _, version = skip["crate"].partition("@")
        skipped[name].add(version)
        if not skip.get("reason"):
            yield f"deny.toml skips {skip['crate']} without a reason"
        if len(versions[name]) < 2 or version not in versions[name]:
            yield f"deny.toml skips {skip['crate']}, which is no duplicate (any more)"
    for name, found in sorted(versions.items()):
        rest = sorted(found - skipped[name])
        if len(rest) > 1:
            yield f"{name} is there in versions {' and '.join(rest)}: agree on one, or skip one"


def sentence_problems(manifest):
    """Every dependency says in a comment above it what it is for."""
    section = above = ""
    for line in map(str.strip, manifest.splitlines()):
        if line.startswith("["):
            section = line.strip("[]")
            # A dependency may also be a table of its own.
            table = re.search(r"dependencies\.([\w-]+)$", section)
            if table and not is_sentence(above):
                yield f"Cargo.toml: {table[1]} has no sentence above it"
        elif section.endswith("dependencies") and re.match(r"[\w\".-]+\s*=", line):
            if not is_sentence(above):
                yield f"Cargo.toml: {line.split('=')[0].strip()} has no sentence above it"
        above = line


def is_sentence(line):
    return line.startswith("#") and line.endswith(".") and len(line.split()) > 2


if __name__ == "__main__":
    sys.exit(main())
