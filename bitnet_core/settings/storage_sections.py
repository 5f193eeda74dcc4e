"""The part of the registry's table that is about storage: one section per target, in the order of the docs."""

from bitnet_core.settings.kinds import Setting, path, secret, text

STORAGE_BACKENDS = (
    *("local", "gdrive", "onedrive", "dropbox", "icloud", "s3", "box", "nextcloud", "webdav"),
    *("firebase", "amplify", "supabase", "mongodb_atlas", "dynamodb"),
)
STORAGE_SECTIONS: dict[str, tuple[Setting, ...]] = {
    "Storage": (
        text("STORAGE_BACKEND", "local", "Where to keep a second copy of the artifacts.", *STORAGE_BACKENDS),
    ),
    "Storage: Google Drive": (text("GDRIVE_PROJECT_ROOT", "", "Folder in the mounted Google Drive."),),
    "Storage: OneDrive": (
        text("ONEDRIVE_ROOT", "/BitNet-7B-KDE", "Folder in OneDrive."),
        text("ONEDRIVE_TENANT_ID", "", "Tenant id."),
        text("ONEDRIVE_CLIENT_ID", "", "Client id of the registered app."),
        secret("ONEDRIVE_CLIENT_SECRET", "Client secret of the registered app."),
        secret("ONEDRIVE_REFRESH_TOKEN", "Refresh token."),
    ),
    "Storage: Dropbox": (
        secret("DROPBOX_ACCESS_TOKEN", "Access token."),
        text("DROPBOX_ROOT", "/bitnet_poc", "Folder in Dropbox."),
    ),
    "Storage: iCloud": (
        path("ICLOUD_DRIVE_DIR", "", "iCloud Drive's folder on this machine."),
        secret("ICLOUD_SESSION_TOKEN", "Not used; kept so that older files still load."),
    ),
    "Storage: S3": (
        secret("AWS_ACCESS_KEY_ID", "Access key."),
        secret("AWS_SECRET_ACCESS_KEY", "Secret key."),
        text("AWS_DEFAULT_REGION", "", "Region."),
        text("S3_BUCKET", "", "Bucket."),
        text("S3_PREFIX", "bitnet_poc/", "Prefix of every key."),
        text("S3_ENDPOINT_URL", "", "Address of an S3-compatible server; empty = AWS."),
    ),
    "Storage: Box": (
        secret("BOX_DEVELOPER_TOKEN", "Developer token."),
        text("BOX_ROOT_FOLDER_ID", "0", "Folder id in Box."),
    ),
    "Storage: Nextcloud": (
        text("NC_WEBDAV_URL", "", "WebDAV address."),
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
        text("FIREBASE_PROJECT_ID", "", "Project."),
        secret("FIREBASE_CREDENTIALS_JSON", "Service account file, or its JSON."),
        text("FIREBASE_STORAGE_BUCKET", "", "Bucket."),
    ),
    "Storage: Amplify": (
        text("AMPLIFY_APP_ID", "", "App."),
        text("AMPLIFY_ENV", "", "Environment."),
        text("AMPLIFY_REGION", "", "Region."),
    ),
    "Storage: Supabase": (
        text("SUPABASE_URL", "", "Address of the project."),
        secret("SUPABASE_ANON_KEY", "Anonymous key."),
        secret("SUPABASE_SERVICE_ROLE_KEY", "Service role key."),
        text("SUPABASE_BUCKET", "bitnet-poc", "Bucket."),
        text("SUPABASE_PREFIX", "artifacts/", "Prefix of every key."),
    ),
    "Storage: MongoDB Atlas": (
        secret("MONGODB_ATLAS_URI", "Connection string."),
        text("MONGODB_DB_NAME", "bitnet_poc", "Database."),
        text("MONGODB_COLLECTION_PREFIX", "artifacts_", "Prefix of every collection."),
    ),
    "Storage: DynamoDB": (
        text("DYNAMO_REGION", "", "Region."),
        text("DYNAMO_TABLE_PREFIX", "bitnet_poc_", "Prefix of every table."),
    ),
}
