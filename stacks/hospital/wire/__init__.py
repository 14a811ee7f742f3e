"""The wire formats between the systems: MLLP and HL7 v2.5.1; refuses storage and policy."""
