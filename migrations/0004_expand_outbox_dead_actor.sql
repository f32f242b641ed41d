-- Who gave up or replayed a dead letter. Billing and audit are never given up by a counter, only by an
-- operator (outbox-engine.md, Handlers), so the row tells which; log lines do not outlive it.
alter table outbox_dead add column completed_by varchar(128);
