"""Tests of students that start from a pretrained model."""
