-- The record's tables. Every resource is one row; its business key is its FHIR id.
-- Changes: append a new numbered block to schema.py, never edit one that a hospital already has.

CREATE TABLE resource (
    row       bigserial PRIMARY KEY,
    type      text NOT NULL,             -- FHIR resourceType
    key       text NOT NULL,             -- mrn, visit, placer number or specimen
    patient   text NOT NULL,             -- current mrn, merges followed
    pending   boolean NOT NULL,          -- the patient has not been announced by administration yet
    version   integer NOT NULL DEFAULT 1,
    stored_at timestamptz NOT NULL DEFAULT now(),
    body      jsonb NOT NULL
);
CREATE INDEX resource_patient ON resource (patient);
CREATE INDEX resource_pending ON resource (patient) WHERE pending;

-- mrn that was merged away -> mrn that lives on (never a chain: see inbound.py)
CREATE TABLE merged (
    source   text PRIMARY KEY,
    survivor text NOT NULL
);

-- messages for the interface engine, in the order in which they were stored
CREATE TABLE outbox (
    seq        bigserial PRIMARY KEY,
    control_id text NOT NULL UNIQUE,     -- MSH-10
    placer     text NOT NULL,
    payload    bytea NOT NULL,
    stored_at  timestamptz NOT NULL DEFAULT now(),
    parked     text                      -- why the engine refused it for good
);

-- messages taken from the engine, so that a repeated one is acknowledged and ignored
CREATE TABLE inbound (
    sender     text NOT NULL,
    control_id text NOT NULL,
    taken_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sender, control_id)
);

-- every stored version of a report, for the ward screens; seq is in order of commit
CREATE TABLE report_feed (
    seq       bigserial PRIMARY KEY,
    specimen  text NOT NULL,
    placer    text NOT NULL,
    patient   text NOT NULL,
    status    text NOT NULL,
    critical  boolean NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE critical (
    id              text PRIMARY KEY,    -- specimen
    placer          text NOT NULL,
    patient         text NOT NULL,
    status          text NOT NULL,
    raised_at       timestamptz NOT NULL DEFAULT now(),
    acknowledged_by text,
    acknowledged_at timestamptz
);

CREATE TABLE heartbeat (
    service text PRIMARY KEY,
    at      timestamptz NOT NULL
);
