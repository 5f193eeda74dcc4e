"""What is done with whole experiments of the workspace: rename, archive, delete."""
