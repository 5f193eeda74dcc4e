"""SecantusDB, which speaks MongoDB's protocol and has users. It is a process of its own and never imported."""

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pymongo

from tests.storage.stand import Running, Stand, free_port, server

PASSWORD = "pa:s/s@%w?rd-20"
_THROUGH = "directConnection=true&serverSelectionTimeoutMS=2000"


def program() -> str | None:
    return shutil.which("secantusd-py", path=str(Path(sys.executable).parent)) or shutil.which("secantusd-py")


def uri(port: int, password: str = PASSWORD, user: str = "bitnet", options: str = "") -> str:
    return f"mongodb://{user}:{quote(password, safe='')}@127.0.0.1:{port}/?{options}"


@contextlib.contextmanager
def start(folder: Path) -> Iterator[Running]:
    port = free_port()
    command = [str(program()), "--host", "127.0.0.1", "--port", str(port), "--storage-path", str(folder / "data")]
    command += ["--log-level", "ERROR", "--enable-test-commands"]
    with server(command, port, folder), pymongo.MongoClient(f"mongodb://127.0.0.1:{port}") as admin:
        admin["admin"].command(
            "createUser", "bitnet", pwd=PASSWORD, roles=[{"role": "readWrite", "db": "bitnet_poc"}]
        )
        admin["admin"].command("createUser", "root", pwd=PASSWORD, roles=["root"])
        admin["admin"].command("createUser", "nobody", pwd=PASSWORD, roles=[{"role": "readWrite", "db": "other"}])

    def overwrite(old: bytes, new: bytes) -> int:
        with pymongo.MongoClient(uri(port, user="root")) as root:
            changed = root["bitnet_poc"]["artifacts_objects"].update_many({"data": old}, {"$set": {"data": new}})
            return int(changed.matched_count)

    with server([*command, "--auth"], port, folder):
        yield Running(
            {"STORAGE_BACKEND": "mongodb_atlas"},
            keys={"MONGODB_ATLAS_URI": uri(port)},
            wrong_keys={"MONGODB_ATLAS_URI": uri(port, "another/passw0rd")},
            dead={"MONGODB_ATLAS_URI": uri(free_port(), options="serverSelectionTimeoutMS=200")},
            port=port,
            # Otherwise the driver goes to the address that the server gives of itself.
            through=lambda proxy: {"MONGODB_ATLAS_URI": uri(proxy, options=_THROUGH)},
            nowhere={"MONGODB_ATLAS_URI": uri(port, user="nobody")},
            overwrite=overwrite,
        )


STANDS = [Stand("mongodb", start, lambda: "" if program() else "pip install secantusdb")]
