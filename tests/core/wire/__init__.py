"""Tests of core.wire."""
