-- What has come back is deleted in batches, the oldest first. Not logged either, as its table.
create index allowance_whole_at on allowance (whole_at);
