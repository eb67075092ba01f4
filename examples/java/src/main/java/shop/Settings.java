package shop;

/** Where the shop is. */
final class Settings {
  static final String BROKERS = of("KAFKA_BROKERS", "127.0.0.1:9092");
  static final String REGISTRY = of("SCHEMA_REGISTRY_URL", "http://127.0.0.1:8080/schema-registry");

  static String of(String name, String byDefault) {
    return System.getenv().getOrDefault(name, byDefault);
  }

  private Settings() {}
}
