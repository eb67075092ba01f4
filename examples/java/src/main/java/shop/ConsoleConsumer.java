package shop;

import java.io.IOException;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.regex.Pattern;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Prints the events of a running shop, decoded. Arguments: topics; all of the shop by default. Ctrl-C ends it. */
public final class ConsoleConsumer {
  public static void main(String[] topics) {
    Registry registry = new Registry(Settings.REGISTRY);
    try (KafkaConsumer<String, byte[]> consumer = open()) {
      if (topics.length > 0) consumer.subscribe(List.of(topics));
      else consumer.subscribe(Pattern.compile("shop\\.[a-z-]+\\.v1"));
      while (true) consumer.poll(Duration.ofSeconds(1)).forEach(message -> print(registry, message));
    }
  }

  static KafkaConsumer<String, byte[]> open() {
    Map<String, Object> settings =
        Map.of(
            "bootstrap.servers", Settings.BROKERS,
            "group.id", "console-" + UUID.randomUUID(),
            "auto.offset.reset", "earliest",
            "enable.auto.commit", false);
    return new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer());
  }

  private static void print(Registry registry, ConsumerRecord<String, byte[]> message) {
    String place = message.topic() + "/" + message.partition() + "@" + message.offset() + " " + message.key();
    try {
      var event = registry.decode(message.value());
      System.out.println(place + " " + event.getSchema().getName() + " " + event);
    } catch (IOException error) {
      System.err.println(place + " cannot be read: " + error.getMessage());
    }
  }

  private ConsoleConsumer() {}
}
