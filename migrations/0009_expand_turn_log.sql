-- Logs of resumable streams, oldest first, for the job that deletes them (turns.md §16.2). A log begins
-- with its place 0.
create index turn_events_begun_idx on turn_events (created_at) where seq = 0;
