/* The load: texts over WebSockets that somebody else opened and authenticated, as fast as the server answers.
 *
 * A lane is one sender, one recipient and the connections at which the recipient gets its texts. Each lane keeps
 * WINDOW texts on their way; the text itself carries the time at which it was sent. One thread, one epoll, no library,
 * because the server must be what is measured. Anything that a lane does not expect ends the run with a message.
 *
 *     load MODE WINDOW TEXT_BYTES WARM_SECONDS SECONDS  < lanes
 *
 *     MODE    live      a text is done when every connection of its recipient has got it
 *             durable   each text has an id and is done when the server has accepted it; its recipient acknowledges
 *             numbered  the same from senders that are devices and number their texts: a lane begins with 1
 *     lanes   SENDER_FD RECIPIENT_ID RECEIVER_FD...      one a line, of inherited descriptors
 *
 * On standard output, in one line of JSON: what was done in SECONDS, how long each text took, and what the whole run
 * came to, which includes warming up and waiting for what was still on its way.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { CONTINUATION = 0, TEXT = 1, CLOSE = 8, PING = 9, PONG = 10 };
enum { READ_BYTES = 64 * 1024, EVENTS = 512, ID_CHARS = 64, STALL_SECONDS = 10, DRAIN_SECONDS = 60 };

typedef struct { char *bytes; size_t length, capacity; } Buffer;

typedef struct {
    int fd;
    struct Lane *lane;
    bool is_sender, waits_to_write;
    Buffer in, out;
    size_t written;           /* of `out` */
    uint64_t seq, acked_seq;  /* the last delivery to a device; what it has acknowledged */
} Connection;

typedef struct Lane {
    Connection *sender;
    char recipient[ID_CHARS + 1];
    uint64_t receivers, sent, accepted, delivered;
} Lane;

static struct { bool is_durable, is_numbered; uint64_t window; size_t text_bytes; double warm_seconds, seconds; } options;
static Lane **lanes;
static size_t lane_count;
static int epoll;
static uint64_t last_stamp, random_state = 0x9e3779b97f4a7c15u;
static uint64_t progress;  /* whatever came in; to notice that nothing does */
static bool is_refilling = true;

/* --- latency: a histogram whose buckets are 1/32 of their value wide --- */

enum { SUB_BITS = 5, SUB = 1 << SUB_BITS, BUCKETS = 64 * SUB };
static uint64_t histogram[BUCKETS], measured;
static bool is_measuring;

static size_t bucket_of(uint64_t ns) {
    if (ns < SUB) return ns;
    int shift = 63 - __builtin_clzll(ns) - SUB_BITS;
    return (size_t)(shift + 1) * SUB + ((ns >> shift) - SUB);
}

static double percentile_ms(double part) {
    uint64_t wanted = (uint64_t)(part * measured), seen = 0;
    for (size_t i = 0; i < BUCKETS; i++)
        if ((seen += histogram[i]) > wanted) {
            int shift = (int)(i / SUB) - 1;
            return (i < SUB ? (double)i : (double)((uint64_t)(SUB + i % SUB) << shift)) / 1e6;
        }
    return 0;
}

/* --- small tools --- */

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static uint32_t next_mask(void) {
    random_state ^= random_state << 13, random_state ^= random_state >> 7, random_state ^= random_state << 17;
    return (uint32_t)random_state;
}

static void *checked(void *memory) {
    if (!memory) fail("out of memory");
    return memory;
}

static char *reserve(Buffer *buffer, size_t room) {
    if (buffer->length + room > buffer->capacity) {
        buffer->capacity = (buffer->length + room) * 2;
        buffer->bytes = checked(realloc(buffer->bytes, buffer->capacity));
    }
    return buffer->bytes + buffer->length;
}

/* --- out --- */

static void put_frame(Connection *connection, int opcode, const char *payload, size_t length) {
    uint8_t *out = (uint8_t *)reserve(&connection->out, length + 8), *start = out;
    uint32_t mask = next_mask();
    if (length > 0xffff) fail("a frame of %zu bytes is more than this load sends", length);
    *out++ = (uint8_t)(0x80 | opcode);
    if (length < 126) *out++ = (uint8_t)(0x80 | length);
    else { *out++ = 0x80 | 126; *out++ = (uint8_t)(length >> 8); *out++ = (uint8_t)length; }
    memcpy(out, &mask, 4);
    const uint8_t *key = out;
    out += 4;
    for (size_t i = 0; i < length; i++) *out++ = (uint8_t)payload[i] ^ key[i & 3];
    connection->out.length += (size_t)(out - start);
}

static void flush(Connection *connection) {
    Buffer *out = &connection->out;
    while (connection->written < out->length) {
        ssize_t n = write(connection->fd, out->bytes + connection->written, out->length - connection->written);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno != EAGAIN) fail("a connection broke while it was written to: %s", strerror(errno));
        if (n < 0) break;
        connection->written += (size_t)n;
    }
    bool is_done = connection->written == out->length;
    if (is_done) connection->written = out->length = 0;
    if (connection->waits_to_write == is_done) {
        connection->waits_to_write = !is_done;
        struct epoll_event event = {.events = EPOLLIN | (is_done ? 0 : EPOLLOUT), .data.ptr = connection};
        epoll_ctl(epoll, EPOLL_CTL_MOD, connection->fd, &event);
    }
}

static uint64_t done(const Lane *lane) {
    return options.is_durable ? lane->accepted : lane->delivered / lane->receivers;
}

static void send_text(Lane *lane) {
    static char frame[0x10000];
    static const char padding[] = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
    uint64_t stamp = now_ns();
    last_stamp = stamp > last_stamp ? stamp : last_stamp + 1;  /* an id must not come twice */
    const char *start = "{\"type\":\"text\",\"payload\":{\"to\":\"%s\",\"text\":\"stamp:%020" PRIu64;
    int length = snprintf(frame, sizeof frame, start, lane->recipient, last_stamp);
    for (size_t missing = options.text_bytes - 26; missing;) {
        size_t n = missing < sizeof padding - 1 ? missing : sizeof padding - 1;
        memcpy(frame + length, padding, n);
        length += (int)n, missing -= n;
    }
    lane->sent++;
    if (options.is_durable) length += sprintf(frame + length, "\"},\"id\":\"stamp:%020" PRIu64 "\"", last_stamp);
    else length += sprintf(frame + length, "\"}");
    if (options.is_numbered) length += sprintf(frame + length, ",\"n\":%" PRIu64, lane->sent);
    length += sprintf(frame + length, "}");
    put_frame(lane->sender, TEXT, frame, (size_t)length);
}

static void refill(Lane *lane) {
    while (is_refilling && lane->sent - done(lane) < options.window) send_text(lane);
    flush(lane->sender);
}

/* --- in --- */

static const char *after(const char *payload, size_t length, const char *key) {
    const char *found = memmem(payload, length, key, strlen(key));
    return found ? found + strlen(key) : NULL;
}

static void take_text(Connection *connection, const char *payload, size_t length) {
    const char *stamp = after(payload, length, "stamp:");
    bool is_accepted = connection->is_sender && options.is_durable;
    if (!stamp || after(payload, length, "\"error\"") || (connection->is_sender && !is_accepted))
        fail("the server sent what nobody waits for: %.*s", (int)length, payload);
    if (is_accepted) connection->lane->accepted++;
    else connection->lane->delivered++;
    const char *seq = options.is_durable && !is_accepted ? after(payload, length, "\"seq\":") : NULL;
    if (seq) connection->seq = strtoull(seq, NULL, 10);
    if (is_measuring && is_accepted == options.is_durable) {
        histogram[bucket_of(now_ns() - strtoull(stamp, NULL, 10))]++;
        measured++;
    }
}

static void take_frame(Connection *connection, int first, const char *payload, size_t length) {
    int opcode = first & 15;
    progress++;
    if (!(first & 0x80) || opcode == CONTINUATION) fail("the server splits messages, which this load does not follow");
    if (opcode == TEXT) take_text(connection, payload, length);
    else if (opcode == PING) put_frame(connection, PONG, payload, length);
    else if (opcode == CLOSE)
        fail("the server closed a connection: %d %.*s",
             length < 2 ? 1005 : (uint8_t)payload[0] << 8 | (uint8_t)payload[1],
             length < 2 ? 0 : (int)length - 2, payload + 2);
    else if (opcode != PONG) fail("the server sent a frame with opcode %d", opcode);
}

/* Takes every whole frame that waits, and returns how many bytes they were. */
static size_t take_frames(Connection *connection) {
    const uint8_t *bytes = (const uint8_t *)connection->in.bytes;
    size_t taken = 0, waiting;
    while ((waiting = connection->in.length - taken) >= 2) {
        const uint8_t *frame = bytes + taken;
        size_t length = frame[1], header = 2;
        if (length == 126 && waiting < 4) break;
        if (length == 126) length = (size_t)frame[2] << 8 | frame[3], header = 4;
        else if (length > 126) fail("the server sent a frame that is masked or over 64 KiB");
        if (waiting < header + length) break;
        take_frame(connection, frame[0], (const char *)frame + header, length);
        taken += header + length;
    }
    return taken;
}

static void on_readable(Connection *connection) {
    Buffer *in = &connection->in;
    ssize_t n = read(connection->fd, reserve(in, READ_BYTES), READ_BYTES);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) fail("the server dropped a connection: %s", n ? strerror(errno) : "end of stream");
    in->length += (size_t)n;
    size_t taken = take_frames(connection);
    in->length -= taken;
    memmove(in->bytes, in->bytes + taken, in->length);
    if (connection->seq > connection->acked_seq) {
        char ack[80];
        int length = sprintf(ack, "{\"type\":\"ack\",\"payload\":{\"upto\":%" PRIu64 "}}", connection->seq);
        connection->acked_seq = connection->seq;
        put_frame(connection, TEXT, ack, (size_t)length);
    }
    flush(connection);
    refill(connection->lane);
}

/* --- the run --- */

static Connection *adopt(const char *descriptor, Lane *lane, bool is_sender) {
    Connection *connection = checked(calloc(1, sizeof *connection));
    *connection = (Connection){.fd = atoi(descriptor), .lane = lane, .is_sender = is_sender};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    if (fcntl(connection->fd, F_SETFL, O_NONBLOCK) < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, connection->fd, &event) < 0)
        fail("descriptor %s: %s", descriptor, strerror(errno));
    return connection;
}

static void read_lanes(void) {
    char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, stdin) > 0) {
        Lane *lane = checked(calloc(1, sizeof *lane));
        const char *sender = strtok(line, " \n"), *recipient = strtok(NULL, " \n"), *receiver;
        if (!sender || !recipient || strlen(recipient) > ID_CHARS)
            fail("a lane is SENDER_FD RECIPIENT_ID RECEIVER_FD...");
        strcpy(lane->recipient, recipient);
        lane->sender = adopt(sender, lane, true);
        for (; (receiver = strtok(NULL, " \n")); lane->receivers++) adopt(receiver, lane, false);
        if (!lane->receivers && !options.is_durable) fail("without receivers no live text is ever done");
        lanes = checked(realloc(lanes, (lane_count + 1) * sizeof *lanes));
        lanes[lane_count++] = lane;
    }
    if (!lane_count) fail("no lanes on standard input");
}

static bool is_everything_done(void) {
    for (size_t i = 0; i < lane_count; i++) {
        const Lane *lane = lanes[i];
        if (lane->delivered != lane->sent * lane->receivers) return false;
        if (options.is_durable && lane->accepted != lane->sent) return false;
    }
    return true;
}

static void run_for(double seconds) {
    struct epoll_event events[EVENTS];
    const uint64_t allowed_ns = STALL_SECONDS * 1000000000ull;
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9), seen = progress, stalled = now_ns() + allowed_ns;
    while (now_ns() < end && (is_refilling || !is_everything_done())) {
        int n = epoll_wait(epoll, events, EVENTS, 20);
        for (int i = 0; i < n; i++) {
            Connection *connection = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) flush(connection);
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_readable(connection);
        }
        if (progress != seen) seen = progress, stalled = now_ns() + allowed_ns;
        else if (now_ns() > stalled) fail("the server sent nothing for %d s", STALL_SECONDS);
    }
}

static double seconds_of(struct timeval time) { return (double)time.tv_sec + (double)time.tv_usec / 1e6; }

static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
}

int main(int count, char **arguments) {
    if (count != 6) fail("load live|durable|numbered WINDOW TEXT_BYTES WARM_SECONDS SECONDS");
    options.is_numbered = strcmp(arguments[1], "numbered") == 0;
    options.is_durable = options.is_numbered || strcmp(arguments[1], "durable") == 0;
    options.window = strtoull(arguments[2], NULL, 10);
    options.text_bytes = strtoull(arguments[3], NULL, 10);
    options.warm_seconds = atof(arguments[4]);
    options.seconds = atof(arguments[5]);
    if (options.text_bytes < 26 || options.text_bytes > 60000) fail("TEXT_BYTES must be 26 to 60000");
    epoll = epoll_create1(EPOLL_CLOEXEC);
    read_lanes();
    for (size_t i = 0; i < lane_count; i++) refill(lanes[i]);
    run_for(options.warm_seconds);
    is_measuring = true;
    uint64_t start = now_ns();
    double cpu = cpu_seconds();
    run_for(options.seconds);
    double seconds = (double)(now_ns() - start) / 1e9;
    cpu = cpu_seconds() - cpu;
    is_measuring = is_refilling = false;
    run_for(DRAIN_SECONDS);
    if (!is_everything_done()) fail("not every text that was sent has arrived %d s later", DRAIN_SECONDS);
    uint64_t total = 0;
    for (size_t i = 0; i < lane_count; i++) total += options.is_durable ? lanes[i]->accepted : lanes[i]->delivered;
    printf("{\"texts\": %" PRIu64 ", \"seconds\": %.6f, \"texts_total\": %" PRIu64 ", ", measured, seconds, total);
    printf("\"p50_ms\": %.4f, \"p99_ms\": %.4f, ", percentile_ms(.5), percentile_ms(.99));
    printf("\"load_cpu\": %.3f}\n", cpu / seconds);
    return 0;
}
