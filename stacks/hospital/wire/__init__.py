"""The wire formats between the systems: MLLP frames and HL7 v2.5.1 messages; no storage, no policy."""
