package shop;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;

/**
 * Reads and writes the shop's events with plain Avro and the schemas of a Confluent-compatible registry.
 * A message is a zero byte, the schema's id as four bytes (big-endian), and Avro binary.
 */
final class Registry {
  record Registered(int id, Schema schema) {}

  private static final Duration LIMIT = Duration.ofSeconds(10);
  private static final ObjectMapper JSON = new ObjectMapper();

  private final HttpClient http = HttpClient.newBuilder().connectTimeout(LIMIT).build();
  private final Map<Integer, Schema> byId = new ConcurrentHashMap<>();
  private final String url;

  Registry(String url) {
    this.url = url;
  }

  /** The latest version of a subject: the full name of a record, such as shopstream.product.ProductListed. */
  Registered latest(String subject) {
    JsonNode answer = get("/subjects/" + URLEncoder.encode(subject, StandardCharsets.UTF_8) + "/versions/latest");
    return new Registered(answer.get("id").asInt(), parse(answer));
  }

  /** Schemas never change under their id, so each is asked for once. */
  Schema byId(int id) {
    return byId.computeIfAbsent(id, missing -> parse(get("/schemas/ids/" + missing)));
  }

  /** Throws IOException for bytes that are no event of the schema they name. */
  GenericRecord decode(byte[] value) throws IOException {
    if (value == null || value.length < 5 || value[0] != 0) throw new IOException("not in Confluent's wire format");
    int id = ByteBuffer.wrap(value, 1, 4).getInt();
    BinaryDecoder decoder = DecoderFactory.get().binaryDecoder(value, 5, value.length - 5, null);
    try {
      GenericRecord event = new GenericDatumReader<GenericRecord>(byId(id)).read(null, decoder);
      if (!decoder.isEnd()) throw new IOException("bytes follow the event of schema " + id);
      return event;
    } catch (RuntimeException error) { // Avro throws whatever the bytes lead it to
      throw new IOException("not an event of schema " + id, error);
    }
  }

  /** Throws an AvroRuntimeException or ClassCastException for a record that its schema does not hold. */
  byte[] encode(Registered registered, GenericRecord event) {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try {
      bytes.write(ByteBuffer.allocate(5).put((byte) 0).putInt(registered.id()).array());
      BinaryEncoder encoder = EncoderFactory.get().binaryEncoder(bytes, null);
      new GenericDatumWriter<GenericRecord>(registered.schema(), GenericData.get()).write(event, encoder);
      encoder.flush();
    } catch (IOException impossible) { // memory takes everything
      throw new UncheckedIOException(impossible);
    }
    return bytes.toByteArray();
  }

  private static Schema parse(JsonNode answer) {
    return new Schema.Parser().parse(answer.get("schema").asText());
  }

  private JsonNode get(String path) {
    HttpRequest request = HttpRequest.newBuilder(URI.create(url + path)).timeout(LIMIT).build();
    try {
      HttpResponse<String> answer = http.send(request, HttpResponse.BodyHandlers.ofString());
      if (answer.statusCode() != 200)
        throw new IOException(request.uri() + " answered " + answer.statusCode() + ": " + answer.body());
      return JSON.readTree(answer.body());
    } catch (IOException error) {
      throw new UncheckedIOException("the schema registry (SCHEMA_REGISTRY_URL): " + error.getMessage(), error);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException("interrupted while asking for a schema", interrupted);
    }
  }
}
