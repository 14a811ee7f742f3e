"""`python -m stacks.hospital.ehr`: runs one node of the record; decides nothing itself."""

from stacks.hospital.ehr.service import ehr
from stacks.hospital.web import run

run(ehr)
