-- To count what waits for its recipient, the index by user was read, which held snapshots fill with all that was ever queued.
create index concurrently notification_awaiting on notification (created_at) where state = 'awaiting-recipient';
