package shop;

import java.nio.file.Files;
import java.nio.file.Path;
import java.security.SecureRandom;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.nio.charset.StandardCharsets;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Announces the products of an ERP's price list to the shop. Argument: a file with a line per product,
 * {@code sku;revision;name;description;amount;currency} (price-list.csv is an example; the amount is in minor units).
 * Revision 1 becomes ProductListed, a later one ProductChanged; announcing one again changes nothing.
 */
public final class PriceList {
  static final String TOPIC = "shop.product.v1";

  private static final SecureRandom RANDOM = new SecureRandom();

  /** `revision` is raised by one with each change of the product, from 1: it is the event's sequence as well. */
  record Product(String sku, int revision, String name, String description, long amount, String currency) {
    static Product parse(String line) {
      String[] cells = line.split(";", -1);
      if (cells.length != 6) throw new IllegalArgumentException("6 cells are needed, not " + cells.length);
      if (!cells[0].matches("ERP-[A-Za-z0-9._-]{1,60}"))
        throw new IllegalArgumentException("the sku has to begin with ERP-, to be none of the shop's own");
      if (!cells[5].matches("[A-Z]{3}")) throw new IllegalArgumentException("the currency is no ISO 4217 code");
      int revision = Integer.parseInt(cells[1]);
      long amount = Long.parseLong(cells[4]);
      if (revision < 1 || amount < 0) throw new IllegalArgumentException("revision and amount cannot be negative or 0");
      return new Product(cells[0], revision, cells[2], cells[3], amount, cells[5]);
    }

    String event() {
      return revision == 1 ? "ProductListed" : "ProductChanged";
    }
  }

  public static void main(String[] args) throws Exception {
    if (args.length != 1) {
      System.err.println("The argument is a price list: sku;revision;name;description;amount;currency per line.");
      System.exit(2);
    }
    List<Product> products = read(Path.of(args[0]));
    for (RecordMetadata place : announce(products)) System.out.println(place);
  }

  /** Throws IllegalArgumentException that names every bad line. */
  static List<Product> read(Path file) throws java.io.IOException {
    List<Product> products = new ArrayList<>();
    List<String> problems = new ArrayList<>();
    List<String> lines = Files.readAllLines(file);
    for (int n = 0; n < lines.size(); n++) {
      try {
        if (!lines.get(n).isBlank()) products.add(Product.parse(lines.get(n)));
      } catch (IllegalArgumentException error) {
        problems.add("line " + (n + 1) + ": " + error.getMessage());
      }
    }
    if (!problems.isEmpty()) throw new IllegalArgumentException("nothing was announced; " + String.join("; ", problems));
    return products;
  }

  /** Writes the events, and returns where they are once the broker has acknowledged each. */
  static List<RecordMetadata> announce(List<Product> products) throws ExecutionException, InterruptedException {
    Registry registry = new Registry(Settings.REGISTRY);
    try (Producer<String, byte[]> producer = open()) {
      List<Future<RecordMetadata>> sent = new ArrayList<>();
      for (Product product : products) sent.add(producer.send(messageOf(registry, product)));
      List<RecordMetadata> places = new ArrayList<>();
      for (Future<RecordMetadata> each : sent) places.add(each.get());
      return places;
    }
  }

  /** Acknowledged by all replicas, without repeats on a retry, partitioned by murmur2 of the key: all by default. */
  static Producer<String, byte[]> open() {
    Map<String, Object> settings = Map.of("bootstrap.servers", Settings.BROKERS);
    return new KafkaProducer<>(settings, new StringSerializer(), new ByteArraySerializer());
  }

  private static ProducerRecord<String, byte[]> messageOf(Registry registry, Product product) {
    var schema = registry.latest("shopstream.product." + product.event());
    GenericRecord price = new GenericData.Record(schema.schema().getField("price").schema());
    price.put("amount", product.amount());
    price.put("currency", product.currency());
    GenericRecord event = new GenericData.Record(schema.schema());
    event.put("sku", product.sku());
    event.put("name", product.name());
    event.put("description", product.description());
    event.put("price", price);
    event.put("version", product.revision());
    var message = new ProducerRecord<>(TOPIC, product.sku(), registry.encode(schema, event));
    headersOf(product.event(), product.sku(), product.revision(), "/erp/price-list")
        .forEach((name, value) -> message.headers().add(name, value.getBytes(StandardCharsets.UTF_8)));
    return message;
  }

  /** The CloudEvents headers that the shop requires, beside W3C trace context. */
  private static Map<String, String> headersOf(String event, String key, long sequence, String source) {
    return Map.of(
        "content-type", "application/avro",
        "ce_specversion", "1.0",
        "ce_id", uuidV7().toString(),
        "ce_type", event,
        "ce_source", source,
        "ce_subject", key,
        "ce_time", Instant.now().truncatedTo(ChronoUnit.MILLIS).toString(),
        "ce_sequence", String.valueOf(sequence),
        "traceparent", "00-" + randomHex(16) + "-" + randomHex(8) + "-01");
  }

  /** RFC 9562: 48 bits of milliseconds, the version, and random bits. */
  static UUID uuidV7() {
    long high = System.currentTimeMillis() << 16 | 0x7000 | RANDOM.nextInt(1 << 12);
    long low = RANDOM.nextLong() >>> 2 | 1L << 63;
    return new UUID(high, low);
  }

  private static String randomHex(int bytes) {
    byte[] random = new byte[bytes];
    RANDOM.nextBytes(random);
    return HexFormat.of().formatHex(random);
  }

  private PriceList() {}
}
