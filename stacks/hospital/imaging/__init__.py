"""Imaging of the mock hospital: scanners, worklist, router, archives and an emergency viewer.

    modalities ──C-STORE──▶ dicom-router ──▶ pacs-a, pacs-b (mirror), emergency-viewer

    instances.py    synthetic images     dicom_terms.py, association.py, listening.py  associations
    pacs.py         chooses its kind: orthanc.py (becomes Orthanc, kept by orthanc_guard.c), or
    archive.py      our own: archive_index (one file), archive_scp (DICOM), archive_web (DICOMweb),
                    archive_commitment (reports that always arrive); viewer.py keeps a day of it
    dicomweb.py     reads any archive

It refuses to know anything of the harness, and to call an image stored that is not on disk.
"""
