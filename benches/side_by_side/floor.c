/* The floor that the benchmark compares with, and who sets the znodes: ZooKeeper's own C client.
 *
 *   floor watch HOSTS PREFIX N   watches PREFIX/n0 and so on; says "ready" once it has them all, and
 *                                "NODE SEQ NANOSECONDS" whenever a value arrives
 *   floor set HOSTS              says "ready"; then, for each line of input
 *     one PATH SEQ SIZE                 sets one: "SENT ACKNOWLEDGED", in nanoseconds
 *     many PREFIX N FIRST TOTAL RATE SIZE
 *                                       sets PREFIX/n0 to n<N-1> in turn, values FIRST and up, so many
 *                                       a second or, at 0, all in flight: "last-round" when each is
 *                                       about to have its last value, "acknowledged NANOSECONDS"
 *
 * A value is its number in sixteen digits, filled up to its size.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zookeeper/zookeeper.h>

static zhandle_t *zk;
static const char *prefix;
static int wanted;
static int arrived;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int connected;
static long in_flight;

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void fail(const char *what, int code) {
    fprintf(stderr, "floor: %s: %s\n", what, zerror(code));
    exit(1);
}

static void get(long node);

static void session(zhandle_t *handle, int type, int state, const char *path, void *context) {
    (void)handle, (void)path, (void)context;
    if (type == ZOO_SESSION_EVENT && state == ZOO_CONNECTED_STATE) {
        pthread_mutex_lock(&lock);
        connected = 1;
        pthread_cond_signal(&changed);
        pthread_mutex_unlock(&lock);
    }
}

static void event(zhandle_t *handle, int type, int state, const char *path, void *context) {
    (void)handle, (void)state, (void)path;
    if (type == ZOO_CHANGED_EVENT)
        get((long)context);
}

static void value(int code, const char *data, int size, const struct Stat *stat,
                  const void *context) {
    uint64_t at = now();
    (void)stat;
    if (code != ZOK)
        fail("get", code);
    if (arrived < wanted) {
        if (++arrived == wanted)
            puts("ready");
    } else if (size >= 16) {
        printf("%ld %.16s %" PRIu64 "\n", (long)context, data, at);
    }
}

static void get(long node) {
    char path[256];
    snprintf(path, sizeof path, "%s/n%ld", prefix, node);
    int code = zoo_awget(zk, path, event, (void *)node, value, (void *)node);
    if (code != ZOK)
        fail("get", code);
}

static char *content(uint64_t seq, int size) {
    static char *buffer;
    static int have;
    if (size > have) {
        buffer = realloc(buffer, (size_t)size + 1);
        memset(buffer, 'x', (size_t)size + 1);
        have = size;
    }
    char digits[17];
    snprintf(digits, sizeof digits, "%016" PRIu64, seq);
    memcpy(buffer, digits, 16);
    return buffer;
}

static void acknowledged(int code, const struct Stat *stat, const void *context) {
    (void)stat, (void)context;
    if (code != ZOK)
        fail("set", code);
    pthread_mutex_lock(&lock);
    in_flight--;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

static void wait_until_acknowledged(void) {
    pthread_mutex_lock(&lock);
    while (in_flight > 0)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static void set(const char *path, uint64_t seq, int size) {
    pthread_mutex_lock(&lock);
    in_flight++;
    pthread_mutex_unlock(&lock);
    int code = zoo_aset(zk, path, content(seq, size), size, -1, acknowledged, NULL);
    if (code != ZOK)
        fail("set", code);
}

static void many(const char *below, long n, uint64_t first, long total, long rate, int size) {
    char path[320];
    uint64_t start = now();
    for (long at = 0; at < total; at++) {
        if (at == total - n)
            puts("last-round");
        uint64_t due = rate > 0 ? start + (uint64_t)at * 1000000000u / (uint64_t)rate : 0;
        struct timespec time = {(time_t)(due / 1000000000u), (long)(due % 1000000000u)};
        if (due > now())
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
        snprintf(path, sizeof path, "%s/n%ld", below, at % n);
        set(path, first + (uint64_t)at, size);
    }
    wait_until_acknowledged();
    printf("acknowledged %" PRIu64 "\n", now());
}

static void obey(const char *line) {
    char path[256];
    uint64_t seq;
    long n, total, rate;
    int size;
    if (sscanf(line, "one %255s %" SCNu64 " %d", path, &seq, &size) == 3) {
        content(seq, size);
        uint64_t sent = now();
        set(path, seq, size);
        wait_until_acknowledged();
        printf("%" PRIu64 " %" PRIu64 "\n", sent, now());
    } else if (sscanf(line, "many %255s %ld %" SCNu64 " %ld %ld %d", path, &n, &seq, &total, &rate,
                      &size) == 6) {
        many(path, n, seq, total, rate, size);
    } else {
        fprintf(stderr, "floor: what is %s", line);
        exit(2);
    }
}

int main(int argc, char **argv) {
    int watches = argc == 5 && strcmp(argv[1], "watch") == 0;
    if (!watches && !(argc == 3 && strcmp(argv[1], "set") == 0)) {
        fprintf(stderr, "floor: watch HOSTS PREFIX N, or set HOSTS\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 1 << 16);
    /* What goes wrong ends in a message of ours. */
    zoo_set_debug_level((ZooLogLevel)0);
    zk = zookeeper_init(argv[2], session, 30000, NULL, NULL, 0);
    pthread_mutex_lock(&lock);
    while (!connected)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    if (watches) {
        prefix = argv[3];
        wanted = atoi(argv[4]);
        for (long node = 0; node < wanted; node++)
            get(node);
    } else {
        puts("ready");
    }
    char line[512];
    while (fgets(line, sizeof line, stdin))
        obey(line);
    zookeeper_close(zk);
    return 0;
}
