"""The kinds of targets: what each is called, which settings and keys it reads, and which module it is. Light.

To add a kind, follow "Adding a storage target" in docs/ARCHITECTURE.md.
"""

from dataclasses import dataclass

from bitnet_core.settings import storage
from bitnet_core.settings.group import Group


@dataclass(frozen=True)
class Kind:
    """A kind of target. `needs` are the settings that must be set, `keys` the secrets that it may read."""

    backend: str
    title: str
    module: str
    options: type[Group]
    needs: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    package: str = ""
    """The package to import beyond the base; empty if there is none."""
    extra: str = ""
    """The extra of bitnet-tui that installs it."""
    folder: str = ""
    """The setting that names a folder or file of this machine, where the target is or may be one."""
    login: str = ""
    """The secret that `bitnet store login` gets; empty if there is no login."""
    creates: str = ""
    """The setting that names what `bitnet store check --create` creates; empty if that is nothing.

    Folders of other targets are created with the first object.
    """
    lacks: str = ""
    """Words of the refusal where that is not there."""

    @property
    def created(self) -> str:
        """What kind of thing that is."""
        return "folder" if self.creates == self.folder else "bucket"


_AWS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")

KINDS = {
    kind.backend: kind
    for kind in (
        Kind(
            "local",
            "A folder",
            "local",
            storage.StorageOptions,
            ("STORAGE_LOCAL_DIR",),
            folder="STORAGE_LOCAL_DIR",
            creates="STORAGE_LOCAL_DIR",
            lacks="create its folder",
        ),
        Kind(
            "icloud", "iCloud Drive", "local", storage.ICloudOptions, ("ICLOUD_DRIVE_DIR",), folder="ICLOUD_DRIVE_DIR"
        ),
        Kind(
            "gdrive",
            "Google Drive",
            "gdrive",
            storage.GoogleDriveOptions,
            keys=("GDRIVE_CLIENT_SECRET", "GDRIVE_REFRESH_TOKEN"),
            folder="GDRIVE_PROJECT_ROOT",
            login="GDRIVE_REFRESH_TOKEN",
        ),
        Kind(
            "onedrive",
            "OneDrive",
            "onedrive",
            storage.OneDriveOptions,
            ("ONEDRIVE_CLIENT_ID",),
            ("ONEDRIVE_CLIENT_SECRET", "ONEDRIVE_REFRESH_TOKEN"),
            login="ONEDRIVE_REFRESH_TOKEN",
        ),
        Kind(
            "dropbox",
            "Dropbox",
            "dropbox",
            storage.DropboxOptions,
            keys=("DROPBOX_ACCESS_TOKEN", "DROPBOX_APP_SECRET", "DROPBOX_REFRESH_TOKEN"),
            package="dropbox",
            login="DROPBOX_REFRESH_TOKEN",
        ),
        Kind(
            "s3",
            "S3",
            "s3",
            storage.S3Options,
            ("S3_BUCKET",),
            _AWS,
            "boto3",
            "s3",
            creates="S3_BUCKET",
            lacks="NoSuchBucket",
        ),
        Kind(
            "box",
            "Box",
            "box",
            storage.BoxOptions,
            keys=("BOX_DEVELOPER_TOKEN", "BOX_CLIENT_SECRET", "BOX_REFRESH_TOKEN"),
            package="box_sdk_gen",
            login="BOX_REFRESH_TOKEN",
        ),
        Kind(
            "nextcloud",
            "Nextcloud",
            "webdav",
            storage.NextcloudOptions,
            ("NC_WEBDAV_URL", "NC_USERNAME"),
            ("NC_APP_PASSWORD",),
        ),
        Kind("webdav", "WebDAV", "webdav", storage.DavPlace, ("WEBDAV_URL",), ("WEBDAV_PASSWORD",)),
        Kind(
            "firebase",
            "Firebase",
            "firebase",
            storage.FirebaseOptions,
            ("FIREBASE_STORAGE_BUCKET",),
            ("FIREBASE_CREDENTIALS_JSON",),
            "google.cloud.storage",
            "firebase",
        ),
        Kind("amplify", "AWS Amplify", "amplify", storage.AmplifyOptions, (), _AWS, "boto3", "s3"),
        Kind(
            "supabase",
            "Supabase",
            "supabase",
            storage.SupabaseOptions,
            ("SUPABASE_URL", "SUPABASE_BUCKET"),
            ("SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_ANON_KEY"),
            creates="SUPABASE_BUCKET",
            lacks="Bucket not found",
        ),
        Kind(
            "mongodb_atlas",
            "MongoDB",
            "mongodb",
            storage.MongoOptions,
            keys=("MONGODB_ATLAS_URI",),
            package="pymongo",
            extra="mongodb",
        ),
        Kind("dynamodb", "DynamoDB", "dynamodb", storage.DynamoOptions, (), _AWS, "boto3", "s3"),
        Kind("rclone", "rclone", "rclone", storage.RcloneOptions, ("RCLONE_REMOTE",)),
    )
}
