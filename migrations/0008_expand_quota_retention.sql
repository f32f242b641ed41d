-- no-transaction
-- Quota rows past their time are found without reading the rows of 400 days. Nothing that a turn updates
-- is in it, so it costs on the first turn of a user's period only. A build that was cut off is done again.
drop index concurrently if exists quota_usage_period_idx;
create index concurrently quota_usage_period_idx on quota_usage (period_start);
