-- Events of compacted topics that the group reads from their first message on, until `replica_filled` has them. That can take as
-- long as a person takes to decide about what cannot be read: a version that begins to keep one more event of such a topic
-- meanwhile has to read it again, as the group has passed it.
create table replica_begun (
  topic text not null,
  event text not null,
  primary key (topic, event)
);
