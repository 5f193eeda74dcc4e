"""Storage settings as typed groups. `storage/catalog.py` says which target reads which group."""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from bitnet_core.settings.group import Group, combined, setting
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.resolved import Settings

SECTIONS = {
    "local": ("Storage",),
    "icloud": ("Storage: iCloud",),
    "gdrive": ("Storage: Google Drive",),
    "onedrive": ("Storage: OneDrive",),
    "dropbox": ("Storage: Dropbox",),
    "s3": ("Storage: S3",),
    "box": ("Storage: Box",),
    "nextcloud": ("Storage: Nextcloud",),
    "webdav": ("Storage: WebDAV",),
    "firebase": ("Storage: Firebase",),
    "amplify": ("Storage: Amplify", "Storage: S3"),
    "supabase": ("Storage: Supabase",),
    "mongodb_atlas": ("Storage: MongoDB Atlas",),
    "dynamodb": ("Storage: DynamoDB", "Storage: S3"),
    "rclone": ("Storage: rclone",),
}
"""Which sections of the registry a STORAGE_BACKEND reads."""

_NOT_LEADING = frozenset({"STORAGE_BACKEND", "STORAGE_NAME", "STORAGE_SYNC", "STORAGE_CHECKPOINTS"})

IDLE = {
    "gdrive": (
        ("GDRIVE_FOLDER", "GDRIVE_CLIENT_ID", "GDRIVE_CLIENT_SECRET", "GDRIVE_REFRESH_TOKEN"),
        "GDRIVE_PROJECT_ROOT",
        True,
    ),
    "amplify": (("AMPLIFY_APP_ID", "AMPLIFY_ENV"), "S3_BUCKET", True),
    "dynamodb": (("S3_PREFIX", "S3_ENDPOINT_URL"), "S3_BUCKET", False),
}
"""Of a STORAGE_BACKEND: settings that nothing reads while another one of it is set, or (False) is empty."""

SyncMode = Literal["off", "end", "live"]


class StorageOptions(Group):
    """Which target has the second copy, under which name, and when it is brought up to date."""

    backend: str = setting("STORAGE_BACKEND")
    name: str = setting("STORAGE_NAME")
    sync: SyncMode = setting("STORAGE_SYNC")
    checkpoints: Literal["needed", "all"] = setting("STORAGE_CHECKPOINTS")
    local_folder: Path | None = setting("STORAGE_LOCAL_DIR")

    @property
    def has_target(self) -> bool:
        """Whether there is a second copy at all: the default target, a folder, is none until it is named."""
        return self.backend not in ("", "local") or self.local_folder is not None

    @property
    def key_names(self) -> tuple[str, ...]:
        """The secrets that the target may read."""
        return tuple(n for n, one in REGISTRY.items() if one.secret and one.section in SECTIONS[self.backend])


def target_mark(settings: Settings, name: str) -> str:
    """A digest of the settings that lead to the copy of this name, to know it again; no key is in it."""
    backend = str(settings.values["STORAGE_BACKEND"] or "local")
    found = {one: str(settings.values.get(one)) for one in leading(backend)}
    return hashlib.sha256(json.dumps([backend, name, found], sort_keys=True).encode()).hexdigest()


def leading(backend: str) -> tuple[str, ...]:
    """The settings, but keys, that say where a target of this kind is."""
    return tuple(
        one
        for one, setting in REGISTRY.items()
        if setting.section in SECTIONS[backend] and not setting.secret and one not in _NOT_LEADING
    )


class ICloudOptions(Group):
    """iCloud Drive's folder on this machine."""

    folder: Path | None = setting("ICLOUD_DRIVE_DIR")


class GoogleDriveOptions(Group):
    """Google Drive: mounted at `mounted`, or else by its API, in `folder`."""

    mounted: str = setting("GDRIVE_PROJECT_ROOT")
    folder: str = setting("GDRIVE_FOLDER")
    client_id: str = setting("GDRIVE_CLIENT_ID")
    auto_mount: bool = setting("AUTO_MOUNT_GDRIVE")
    mount_point: Path | None = setting("GDRIVE_MOUNT_POINT")


class OneDriveOptions(Group):
    """A folder in OneDrive, and the registered app. An empty `tenant` is any account."""

    root: str = setting("ONEDRIVE_ROOT")
    tenant: str = setting("ONEDRIVE_TENANT_ID")
    client_id: str = setting("ONEDRIVE_CLIENT_ID")


class DropboxOptions(Group):
    """A folder in Dropbox, and the registered app."""

    root: str = setting("DROPBOX_ROOT")
    app_key: str = setting("DROPBOX_APP_KEY")


class S3Options(Group):
    """A bucket of S3 or of a server with its API."""

    bucket: str = setting("S3_BUCKET")
    prefix: str = setting("S3_PREFIX")
    endpoint: str = setting("S3_ENDPOINT_URL")
    region: str = setting("AWS_DEFAULT_REGION")


class BoxOptions(Group):
    """A folder in Box, and the registered app."""

    folder_id: str = setting("BOX_ROOT_FOLDER_ID")
    client_id: str = setting("BOX_CLIENT_ID")


def _dav(url: str, user: str, root: str) -> Any:
    return combined({"url": url, "user": user, "root": root}, lambda values: DavPlace(**values))


class DavPlace(Group):
    """A folder on a WebDAV server, and the user."""

    url: str = setting("WEBDAV_URL")
    user: str = setting("WEBDAV_USERNAME")
    root: str = setting("WEBDAV_ROOT_PATH")


class NextcloudOptions(Group):
    """A folder in Nextcloud, which speaks WebDAV."""

    place: DavPlace = _dav("NC_WEBDAV_URL", "NC_USERNAME", "NC_ROOT_PATH")


class FirebaseOptions(Group):
    """A bucket of Firebase, which is one of Google Cloud Storage."""

    project: str = setting("FIREBASE_PROJECT_ID")
    bucket: str = setting("FIREBASE_STORAGE_BUCKET")


class AmplifyOptions(Group):
    """The S3 bucket of an Amplify app."""

    app_id: str = setting("AMPLIFY_APP_ID")
    environment: str = setting("AMPLIFY_ENV")
    region: str = setting("AMPLIFY_REGION")
    s3_region: str = setting("AWS_DEFAULT_REGION")
    bucket: str = setting("S3_BUCKET")
    prefix: str = setting("S3_PREFIX")
    endpoint: str = setting("S3_ENDPOINT_URL")


class SupabaseOptions(Group):
    """A bucket of Supabase Storage."""

    url: str = setting("SUPABASE_URL")
    bucket: str = setting("SUPABASE_BUCKET")
    prefix: str = setting("SUPABASE_PREFIX")


class MongoOptions(Group):
    """A database of MongoDB."""

    database: str = setting("MONGODB_DB_NAME")
    collection_prefix: str = setting("MONGODB_COLLECTION_PREFIX")


class DynamoOptions(Group):
    """A table of DynamoDB; with an S3 bucket, the contents of the objects are kept there."""

    region: str = setting("DYNAMO_REGION")
    table_prefix: str = setting("DYNAMO_TABLE_PREFIX")
    endpoint: str = setting("DYNAMO_ENDPOINT_URL")
    bucket: str = setting("S3_BUCKET")
    prefix: str = setting("S3_PREFIX")
    s3_region: str = setting("AWS_DEFAULT_REGION")
    s3_endpoint: str = setting("S3_ENDPOINT_URL")


class RcloneOptions(Group):
    """A remote of the user's own rclone configuration: `name:path`. Without `config`, rclone looks for its file."""

    remote: str = setting("RCLONE_REMOTE")
    config: Path | None = setting("RCLONE_CONFIG")
