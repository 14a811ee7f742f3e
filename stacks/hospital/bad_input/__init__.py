"""Input that the hospital must refuse, sent through its real links while an experiment runs.

    inputs.py       what one bad input is, and what was heard of it
    imaging.py      images, AE titles, encodings and patients that radiology must not take
    dicom.py        how those are sent, and what is heard
    appointments.py slots that are gone, appointments that are cancelled already
    messages.py     HL7 messages that the engine cannot route or read
    neighbours.py   sound patients, orders and appointments beside it, which must stay as they are

It judges nothing; claim BI-1 does.
"""
