-- What was noted for the database as a whole, event by event: a restarted service serves at once, also while Kafka is away.
insert into replica_filled (topic, event)
select * from (values
  ('shop.user.v1', 'UserRegistered'), ('shop.user.v1', 'UserProfileChanged'), ('shop.user.v1', 'UserErased'),
  ('shop.signing-key.v1', 'SigningKeyPublished'), ('shop.signing-key.v1', 'SigningKeyRetired'),
  ('shop.schema.v1', 'SchemaRegistered')) as kept
where exists (select from replicas_filled);
