"""The grammar of the commands that have actions of their own: `buckets`, `keys` and `encoder`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from squash import limits
from squash.cli.shared_arguments import add_global, add_tag
from squash.cli.values import count, dimensions, filter_object, lifetime_ms, words
from squash.encoders.contract import OverLong, Pooling

KNOWN_MODELS: Final = ("minilm", "bge-small", "efficientnet-lite0")
"""What `squash.encoders.export.sources.KNOWN` has, which is not loaded to tell of it."""

_NAMED: Final = "its name; where several have it, with some digits of the digest: NAME@DIGITS"


def buckets_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `squash buckets`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make an empty vector bucket")
    create.add_argument("bucket", metavar="NAME", help="3 to 63 of a-z, 0-9, - and .")
    add_tag(create)
    actions.add_parser("list", help="list the vector buckets")
    delete = actions.add_parser("delete", help="delete a vector bucket that has no index")
    delete.add_argument("bucket", metavar="NAME", help="the bucket's name")
    for action in actions.choices.values():
        add_global(action, suppress=True)


def keys_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `squash keys`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a key; its token is shown this once")
    create.add_argument(
        "--scopes",
        type=words,
        required=True,
        metavar="SCOPES",
        help="what it allows: of read, write and admin, with commas",
    )
    create.add_argument(
        "--indexes",
        type=words,
        default=["*"],
        metavar="NAMES",
        help="which indexes, with commas: names, or beginnings of names followed by *; in a "
        "vector bucket bucket/name, bucket/beginning* or bucket/* (default *: every index)",
    )
    create.add_argument(
        "--row-filter",
        type=filter_object,
        metavar="JSON",
        help="a filter and-ed into everything the key reads; for keys that only read",
    )
    create.add_argument(
        "--expires",
        type=lifetime_ms,
        metavar="TIME",
        help="after which it no longer works, such as 90m, 12h or 30d (else never)",
    )
    create.add_argument(
        "--access-key",
        action="store_true",
        help="let clients of Amazon S3 Vectors sign with it too: an access key ID and a secret "
        "access key",
    )
    create.add_argument("--description", default="", metavar="TEXT", help="for people")
    actions.add_parser("list", help="list the keys; their tokens are not stored")
    revoke = actions.add_parser("revoke", help="let a key no longer work; within a minute")
    revoke.add_argument("key", metavar="ID", help="the part of the token between the _")
    for action in actions.choices.values():
        add_global(action, suppress=True)


def encoder_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `squash encoder`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _export(actions.add_parser("export", help="make an encoder's folder of a model, and judge it"))
    add = actions.add_parser("add", help="put an encoder into the store, for indexes to name")
    add.add_argument(
        "source",
        metavar="FOLDER|NAME",
        help="a folder with encoder.json, or a known model such as minilm, which is exported first",
    )
    _quantize(add)
    actions.add_parser("list", help="list the store's encoders")
    show = actions.add_parser("show", help="show what an encoder is")
    show.add_argument("name", metavar="NAME", help=_NAMED)
    check = actions.add_parser("check", help="try an encoder, and compare it with its reference")
    check.add_argument("source", metavar="NAME|FOLDER", help="of the store, or a folder")
    remove = actions.add_parser("remove", help="take an encoder out of the store")
    remove.add_argument("name", metavar="NAME", help=_NAMED)
    remove.add_argument(
        "--force", action="store_true", help="though indexes have it, which then take no text"
    )
    remove.add_argument("--yes", action="store_true", help="do not ask")
    for action in actions.choices.values():
        add_global(action, suppress=True)


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help=f"a known model ({', '.join(KNOWN_MODELS)}), or a folder as Hugging Face lays them "
        "out",
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="the folder to make")
    parser.add_argument("--name", metavar="NAME", help="of the encoder (default: the model's)")
    _quantize(parser)
    parser.add_argument(
        "--texts",
        type=Path,
        metavar="FILE",
        help="one text a line, to judge by what rounding loses (else texts that come with it)",
    )
    parser.add_argument(
        "--force", action="store_true", help="keep it though it loses more than the bound"
    )
    _settings(parser.add_argument_group("where the model's files do not say it, or otherwise"))


def _settings(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--pooling",
        choices=[str(pooling) for pooling in Pooling],
        help="how tokens' vectors become one; none if the model does it",
    )
    group.add_argument(
        "--tokens-max", type=count(limits.ENCODER_TOKENS_MAX), metavar="N", help="of one text"
    )
    group.add_argument(
        "--over-long",
        choices=[str(way) for way in OverLong],
        help="whether the end of a longer text is cut, or its parts are encoded and averaged",
    )
    group.add_argument("--query-prefix", metavar="WORDS", help="what the model sees before a query")
    group.add_argument("--document-prefix", metavar="WORDS", help="and before a record's text")
    group.add_argument(
        "--truncate-dimensions",
        type=dimensions,
        metavar="N,N",
        help="smaller dimensions it was trained for, which an index may take",
    )
    group.add_argument(
        "--no-normalise",
        action="store_const",
        const=False,
        dest="normalise",
        help="leave vectors as long as the model makes them",
    )
    group.add_argument("--revision", metavar="WORDS", help="for people")
    group.add_argument("--licence", metavar="WORDS", help="for people")


def _quantize(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--quantize",
        choices=["none", "w8", "int8"],
        help="round weights to 8 bits (w8), what flows between them too (int8), or nothing "
        "(default: w8 for texts' weights in floats, else none)",
    )
