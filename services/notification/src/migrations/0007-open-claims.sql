-- The number of the claim of which nothing is written down yet. When the next one finds that of the last, its process died with
-- the mail in hand, and nobody knows whether the server has it. The version before writes it never, and counts claims on.
alter table notification add column open_claim integer;
