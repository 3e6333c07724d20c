"""`ironwire backup`, `restore` and `migrate`: the data folder as a whole."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import attrs
import click
import trio
from rich.filesize import decimal

from ironwire.cli.operator.serverside import data_option, loaded_settings
from ironwire.cli.options import config_option, json_option
from ironwire.cli.terminal import counted
from ironwire.errors import StoreError
from ironwire.handlers.operator import Copy
from ironwire.server.operator.admin import perform
from ironwire.store.backup import Contents, check_target, make_backup, restore_backup
from ironwire.store.contract.records import Quota
from ironwire.store.sqlite.store import SqliteStore
from ironwire.store.survey import DATABASE


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@data_option
@config_option
@json_option
def backup(folder: Path, data: Path | None, config_file: Path | None, *, as_json: bool) -> None:
    """Put a backup of the server's data at DIR, a folder that is not there yet.

    The server may run, and goes on meanwhile. The backup is looked at before it gets its name: what is called DIR is
    whole. Files are linked where DIR is on the same disk, and so take no room; for another disk they are copied.
    """
    settings = loaded_settings(config_file, data)
    check_target(folder)
    copied = settings.data / trio.run(perform, settings, Copy())["name"]
    try:
        contents = make_backup(settings.data, copied, folder)
    finally:
        copied.unlink(missing_ok=True)
    _say(f"{folder} is whole", contents, as_json=as_json)


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@data_option
@config_option
@json_option
def restore(folder: Path, data: Path | None, config_file: Path | None, *, as_json: bool) -> None:
    """Put the backup at DIR into the data folder, which must hold neither a database nor files; the server is stopped.

    Every mailbox gets a new epoch: devices get again what they may have had and not acknowledged before the backup.
    """
    settings = loaded_settings(config_file, data)
    contents = restore_backup(folder, settings.data)
    _say(f"{settings.data} is ready to be served", contents, as_json=as_json)


@click.command()
@data_option
@config_option
@json_option
def migrate(data: Path | None, config_file: Path | None, *, as_json: bool) -> None:
    """Bring an old database to this version's schema, as the server's next start would; the server is stopped.

    The old database is copied first, to ironwire.db.schema-N.backup beside it.
    """
    settings = loaded_settings(config_file, data)
    path = settings.data / DATABASE
    if not path.exists():
        raise StoreError(f"there is no {path}: name the folder with --data, or the settings with --config")
    before = _schema_of(path)
    trio.run(_open_once, SqliteStore(path, Quota.of(settings.limits)))
    after = _schema_of(path)
    copied = None if before == after else path.with_name(f"{path.name}.schema-{before}.backup")
    if as_json:
        click.echo(json.dumps({"before": before, "after": after, "copy": None if copied is None else str(copied)}))
    elif copied is None:
        click.echo(f"{path} has schema {after} already")
    else:
        click.echo(f"{path} had schema {before} and has {after}; as it was: {copied}")


async def _open_once(store: SqliteStore) -> None:
    await store.open()
    await store.close()


def _schema_of(path: Path) -> int:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            schema: int = database.execute("PRAGMA user_version").fetchone()[0]
            return schema
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error


def _say(sentence: str, contents: Contents, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(attrs.asdict(contents)))
        return
    click.echo(
        f"{sentence}: {counted(contents.mailboxes, 'mailbox', 'mailboxes')} with "
        f"{counted(contents.waiting, 'envelope')}, {counted(contents.blobs, 'file')} ({decimal(contents.blob_bytes)})"
    )
