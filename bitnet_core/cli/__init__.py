"""The `bitnet` command: one file per family of commands. A new command goes into its family's file."""
