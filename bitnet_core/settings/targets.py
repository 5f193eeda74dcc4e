"""The settings of each storage target: a part of the registry, with the same rules (see `registry.py`)."""

from bitnet_core.settings.kinds import Setting, path, secret, text

STORAGE_BACKENDS = (
    "local",
    "gdrive",
    "onedrive",
    "dropbox",
    "icloud",
    "s3",
    "box",
    "nextcloud",
    "webdav",
    "firebase",
    "amplify",
    "supabase",
    "mongodb_atlas",
    "dynamodb",
    "rclone",
)
TARGETS: dict[str, tuple[Setting, ...]] = {
    "Storage: Google Drive": (
        text("GDRIVE_PROJECT_ROOT", "", "Folder in the mounted Google Drive; empty = Drive's API."),
        text("GDRIVE_FOLDER", "/bitnet_poc", "Folder in Google Drive, for its API; the app makes it."),
        text("GDRIVE_CLIENT_ID", "", "Client id of the registered app; its type is TV or desktop."),
        secret("GDRIVE_CLIENT_SECRET", "Client secret of the registered app."),
        secret("GDRIVE_REFRESH_TOKEN", "Refresh token; `bitnet store login` gets one."),
    ),
    "Storage: OneDrive": (
        text("ONEDRIVE_ROOT", "/BitNet-7B-KDE", "Folder in OneDrive."),
        text("ONEDRIVE_TENANT_ID", "", "Tenant id; empty = any account."),
        text("ONEDRIVE_CLIENT_ID", "", "Client id of the registered app."),
        secret("ONEDRIVE_CLIENT_SECRET", "Client secret of the registered app."),
        secret("ONEDRIVE_REFRESH_TOKEN", "Refresh token; `bitnet store login` gets one."),
    ),
    "Storage: Dropbox": (
        text("DROPBOX_APP_KEY", "", "Key of the registered app; its redirect URI is http://localhost:53682/."),
        secret("DROPBOX_APP_SECRET", "Secret of the registered app; not needed after `bitnet store login`."),
        secret("DROPBOX_REFRESH_TOKEN", "Refresh token; `bitnet store login` gets one."),
        secret("DROPBOX_ACCESS_TOKEN", "Access token; it expires after hours, so a refresh token is better."),
        text("DROPBOX_ROOT", "/bitnet_poc", "Folder in Dropbox."),
    ),
    "Storage: iCloud": (
        path("ICLOUD_DRIVE_DIR", "", "iCloud Drive's folder on this machine."),
        secret("ICLOUD_SESSION_TOKEN", "Not used; kept so that older files still load."),
    ),
    "Storage: S3": (
        text("S3_BUCKET", "", "Name of the bucket, without s3:// and without a folder."),
        text("S3_ENDPOINT_URL", "", "Address of an S3-compatible server; empty = AWS."),
        secret("AWS_ACCESS_KEY_ID", "Id of an access key."),
        secret("AWS_SECRET_ACCESS_KEY", "Secret of the access key."),
        text(
            "AWS_DEFAULT_REGION", "", "Region of the bucket, such as eu-central-1; not needed with S3_ENDPOINT_URL."
        ),
        text("S3_PREFIX", "bitnet_poc/", "Prefix of the name of every object, like a folder."),
        secret("AWS_SESSION_TOKEN", "Session token: only for temporary keys."),
    ),
    "Storage: Box": (
        text("BOX_CLIENT_ID", "", "Client id of the registered app; its redirect URI is http://127.0.0.1:53682/."),
        secret("BOX_CLIENT_SECRET", "Client secret of the registered app."),
        secret("BOX_REFRESH_TOKEN", "Refresh token; `bitnet store login` gets one."),
        secret("BOX_DEVELOPER_TOKEN", "Developer token; it expires after an hour, so a refresh token is better."),
        text("BOX_ROOT_FOLDER_ID", "0", "Folder id in Box."),
    ),
    "Storage: Nextcloud": (
        text("NC_WEBDAV_URL", "", "Address of the server, or its WebDAV address."),
        text("NC_USERNAME", "", "User."),
        secret("NC_APP_PASSWORD", "App password."),
        text("NC_ROOT_PATH", "/bitnet_poc", "Folder in Nextcloud."),
    ),
    "Storage: WebDAV": (
        text("WEBDAV_URL", "", "Address."),
        text("WEBDAV_USERNAME", "", "User."),
        secret("WEBDAV_PASSWORD", "Password."),
        text("WEBDAV_ROOT_PATH", "/bitnet_poc", "Folder on the server."),
    ),
    "Storage: Firebase": (
        text("FIREBASE_PROJECT_ID", "", "Project; empty = that of the account."),
        secret("FIREBASE_CREDENTIALS_JSON", "Service account file, or its JSON."),
        text("FIREBASE_STORAGE_BUCKET", "", "Bucket."),
    ),
    "Storage: Amplify": (
        text("AMPLIFY_APP_ID", "", "App whose bucket for files is used; not needed with S3_BUCKET."),
        text("AMPLIFY_ENV", "", "Environment of the app, or branch; not needed with S3_BUCKET."),
        text("AMPLIFY_REGION", "", "Region of the app and its bucket; empty = same as AWS_DEFAULT_REGION."),
    ),
    "Storage: Supabase": (
        text("SUPABASE_URL", "", "Address of the project."),
        secret("SUPABASE_SERVICE_ROLE_KEY", "Service role key."),
        secret("SUPABASE_ANON_KEY", "Anonymous key; used without a service role key."),
        text("SUPABASE_BUCKET", "bitnet-poc", "Bucket."),
        text("SUPABASE_PREFIX", "artifacts/", "Prefix of the name of every object, like a folder."),
    ),
    "Storage: MongoDB Atlas": (
        secret("MONGODB_ATLAS_URI", "Connection string."),
        text("MONGODB_DB_NAME", "bitnet_poc", "Database."),
        text("MONGODB_COLLECTION_PREFIX", "artifacts_", "Prefix of every collection."),
    ),
    "Storage: DynamoDB": (
        text("DYNAMO_REGION", "", "Region of the table; empty = same as AWS_DEFAULT_REGION."),
        text(
            "DYNAMO_TABLE_PREFIX",
            "bitnet_poc_",
            "Prefix of the table, which is created if missing, with on-demand billing; S3_BUCKET takes the contents.",
        ),
        text("DYNAMO_ENDPOINT_URL", "", "Address of a server with DynamoDB's API; empty = AWS."),
    ),
    "Storage: rclone": (
        text("RCLONE_REMOTE", "", "A remote of your rclone configuration, as name:path."),
        path("RCLONE_CONFIG", "", "The rclone configuration; empty = where rclone keeps it."),
    ),
}
