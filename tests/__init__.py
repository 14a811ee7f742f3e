"""Tests of hospital-chaos; they mirror the source."""
