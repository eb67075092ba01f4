package shop;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.function.Predicate;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Tests against a running shop. Environment: KAFKA_BROKERS, SCHEMA_REGISTRY_URL, GATEWAY_URL. */
class ShopTest {
  private static final Duration LIMIT = Duration.ofSeconds(120);
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final HttpClient HTTP = HttpClient.newHttpClient();
  private static final String GATEWAY = Settings.of("GATEWAY_URL", "http://127.0.0.1:8080");

  @Test
  void aConsumerReadsWhatARegistrationCauses() throws Exception {
    String email = register();
    var found = read("shop.user.v1", event -> email.equals(String.valueOf(event.get("email"))));
    assertEquals("shopstream.user.UserRegistered", found.getSchema().getFullName());
    assertEquals("Grażyna 李", found.get("displayName").toString());
  }

  @Test
  void aProductOfThePriceListCanBeOrderedAtItsPrice(@TempDir Path folder) throws Exception {
    String token = login(register());
    String sku = "ERP-" + UUID.randomUUID();
    assertEquals("unknown-product", order(token, sku).get("code").asText());
    for (int revision = 1; revision <= 2; revision++) {
      long amount = 4_900 + revision;
      Path file = Files.writeString(folder.resolve("list.csv"), "%s;%d;Teapot;Cast iron.;%d;EUR\n".formatted(sku, revision, amount));
      PriceList.main(new String[] {file.toString()});
      JsonNode order = eventually("an order at " + amount, () -> {
        JsonNode answer = order(token, sku);
        return answer.at("/total/amount").asLong() == amount ? answer : null;
      });
      assertEquals("EUR", order.at("/total/currency").asText());
      // The order service knows the price, inventory has none in stock.
      assertEquals("rejected", order.get("status").asText());
    }
  }

  @Test
  void aPriceListWithABadLineAnnouncesNothing(@TempDir Path folder) throws Exception {
    for (String bad : List.of("mug-enamel;1;n;d;1;EUR", "ERP-a;0;n;d;1;EUR", "ERP-a;1;n;d;-1;EUR", "ERP-a;1;n;d;1;euro", "ERP-a;x")) {
      Path file = Files.writeString(folder.resolve("list.csv"), "ERP-good;1;n;d;1;EUR\n" + bad + "\n");
      var error = assertThrows(IllegalArgumentException.class, () -> PriceList.read(file), bad);
      assertTrue(error.getMessage().contains("line 2"), error.getMessage());
    }
    assertEquals(2, PriceList.read(Path.of("price-list.csv")).size());
  }

  @Test
  void bytesThatAreNoEventAreRefused() throws Exception {
    Registry registry = new Registry(Settings.REGISTRY);
    byte[] whole = {0, 0, 1, (byte) 0x86, (byte) 0xa1, 2, 0, 2, 0}; // SchemaRegistered, the first schema
    assertEquals(1, registry.decode(whole).get("schemaId"));
    byte[] trailing = Arrays.copyOf(whole, whole.length + 1);
    byte[] cut = Arrays.copyOf(whole, whole.length - 1);
    byte[] foreign = {1, 0, 1, (byte) 0x86, (byte) 0xa1, 2, 0, 2, 0};
    for (byte[] bytes : new byte[][] {{}, {0, 0}, cut, trailing, foreign})
      assertThrows(IOException.class, () -> registry.decode(bytes), Arrays.toString(bytes));
    byte[] unknown = {0, 0, 0, 0, 1, 0};
    assertThrows(IOException.class, () -> registry.decode(unknown));
  }

  /** The file is what clients of other languages are tested against. */
  @Test
  void partitionsAreThoseOfTheFile() throws Exception {
    JsonNode file = JSON.readTree(Path.of("../partitions.json").toFile());
    int partitions = file.get("partitions").asInt();
    assertTrue(file.get("ofKey").size() >= 10);
    file.get("ofKey").properties().forEach((entry) -> {
      byte[] key = entry.getKey().getBytes(StandardCharsets.UTF_8);
      assertEquals(entry.getValue().asInt(), BuiltInPartitioner.partitionForKey(key, partitions), entry.getKey());
    });
  }

  @Test
  void eventIdsAreUuidsOfVersion7() {
    long before = System.currentTimeMillis();
    UUID id = PriceList.uuidV7();
    assertEquals(7, id.version());
    assertEquals(2, id.variant());
    long made = id.getMostSignificantBits() >>> 16;
    assertTrue(made >= before && made <= System.currentTimeMillis());
  }

  /** The first event of a topic that fits. */
  private static GenericRecord read(String topic, Predicate<GenericRecord> fits) throws IOException {
    Registry registry = new Registry(Settings.REGISTRY);
    Instant deadline = Instant.now().plus(LIMIT);
    try (var consumer = ConsoleConsumer.open()) {
      consumer.subscribe(List.of(topic));
      while (Instant.now().isBefore(deadline)) {
        for (var message : consumer.poll(Duration.ofMillis(200))) {
          GenericRecord event = registry.decode(message.value());
          if (fits.test(event)) return event;
        }
      }
    }
    return fail("no such event in " + topic + " within " + LIMIT);
  }

  private static String register() throws Exception {
    String email = "java-" + UUID.randomUUID() + "@example.com";
    post("/v1/users", Map.of("email", email, "password", "correct horse battery", "displayName", "Grażyna 李"), null);
    return email;
  }

  private static String login(String email) throws Exception {
    var credentials = Map.of("email", email, "password", "correct horse battery");
    return post("/v1/sessions", credentials, null).get("accessToken").asText();
  }

  private static JsonNode order(String token, String sku) throws Exception {
    var address = Map.of("name", "Ada", "line1", "1 Way", "city", "London", "postalCode", "SW1Y 4JH", "country", "GB");
    var order = Map.of("items", List.of(Map.of("sku", sku, "quantity", 1)), "shippingAddress", address);
    return post("/v1/orders", order, token);
  }

  private static JsonNode post(String path, Object body, String token) throws Exception {
    var request = HttpRequest.newBuilder(URI.create(GATEWAY + path)).header("content-type", "application/json");
    if (token != null) request.header("authorization", "Bearer " + token).header("prefer", "wait=10");
    request.POST(HttpRequest.BodyPublishers.ofByteArray(JSON.writeValueAsBytes(body)));
    return JSON.readTree(HTTP.send(request.build(), HttpResponse.BodyHandlers.ofByteArray()).body());
  }

  private static <T> T eventually(String what, Callable<T> probe) throws Exception {
    Instant deadline = Instant.now().plus(LIMIT);
    while (Instant.now().isBefore(deadline)) {
      T value = probe.call();
      if (value != null) return value;
      Thread.sleep(100);
    }
    return fail("waited " + LIMIT + " for " + what);
  }
}
