"""Fakes of services that no package offers as a server. Each does as the vendor documents; rclone is the judge."""
