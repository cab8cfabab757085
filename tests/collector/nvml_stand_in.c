/* A stand-in for libnvidia-ml.so.1: says what a text file says, as it is at the moment of the call.
 *
 * Each line is `<device> <key> <value>`. Devices are numbered; 100 * (N + 1) + M is MIG device M of
 * GPU N; `-` stands for the system. The key may be the name of a function: then the value is
 * `fail <code>` (what it returns) or `hang`.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef struct { unsigned gpu, memory; } utilization_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2_t;
typedef struct { unsigned pid; unsigned long long memory; unsigned gi, ci; } process_t;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } pci_t;

typedef struct {
    unsigned field, scope; long long at, latency; unsigned type, code;
    union { unsigned small; unsigned long long large; } value;
} field_t;
typedef struct { void *device; unsigned long long type, data; unsigned gi, ci; } event_t;
typedef struct { unsigned pid; unsigned long long at; unsigned sm, memory, encoder, decoder; } share_t;
typedef struct {
    unsigned utilization, memory_utilization;
    unsigned long long max_memory, milliseconds, started_at;
    unsigned is_running, reserved[5];
} account_t;

enum { NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, TIMEOUT = 10 };
enum { DOUBLE_BIT_ECC = 2, XID = 8, ACCOUNTS = 4000 };
#define SYSTEM (-1)

typedef struct { int device; char key[64], value[256]; } line_t;
static line_t *lines;
static int line_count;

/* Read the file if it is another one than the last time; it is replaced, never written into. */
static void read_anew(void) {
    static struct stat known;
    struct stat now;
    char text[512], who[16];
    const char *path = getenv("NVML_STAND_IN");
    if (stat(path, &now)) return;
    if (now.st_ino == known.st_ino && now.st_mtim.tv_sec == known.st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == known.st_mtim.tv_nsec && now.st_size == known.st_size) return;
    FILE *file = fopen(path, "r");
    if (!file) return;
    known = now;
    line_count = 0;
    while (fgets(text, sizeof text, file)) {
        int offset = 0;
        lines = realloc(lines, (size_t)(line_count + 1) * sizeof *lines);
        line_t *line = &lines[line_count];
        if (sscanf(text, "%15s %63s %n", who, line->key, &offset) < 2) continue;
        text[strcspn(text, "\n")] = 0;
        line->device = strcmp(who, "-") ? atoi(who) : SYSTEM;
        snprintf(line->value, sizeof line->value, "%s", text + offset);
        line_count++;
    }
    fclose(file);
}

/* Copy the nth value of a device's key; return whether there is one. */
static int look(int device, const char *key, int nth, char *value, size_t size) {
    read_anew();
    for (int n = 0; n < line_count; n++) {
        if (lines[n].device != device || strcmp(lines[n].key, key) || nth-- > 0) continue;
        snprintf(value, size, "%s", lines[n].value);
        return 1;
    }
    return 0;
}

static int number_of(void *handle) { return (int)(intptr_t)handle - 1; }

static int trouble(int device, const char *function) {
    char value[64];
    int code = 0;
    if (!look(device, function, 0, value, sizeof value)) return 0;
    if (!strcmp(value, "hang")) for (;;) pause();
    sscanf(value, "fail %d", &code);
    return code;
}

static int text(int device, const char *function, const char *key, char *out, unsigned size) {
    int code = trouble(device, function);
    if (code) return code;
    return look(device, key, 0, out, size) ? 0 : NOT_SUPPORTED;
}

static int number(int device, const char *function, const char *key, unsigned long long *out) {
    char value[64];
    int code = text(device, function, key, value, sizeof value);
    if (!code) *out = strtoull(value, NULL, 10);
    return code;
}

static int small(int device, const char *function, const char *key, unsigned *out) {
    unsigned long long value = 0;
    int code = number(device, function, key, &value);
    if (!code) *out = (unsigned)value;
    return code;
}

int nvmlInitWithFlags(unsigned flags) {
    char path[256];
    (void)flags;
    /* The real one keeps every device open. */
    for (int n = 0; look(SYSTEM, "opens", n, path, sizeof path); n++) open(path, O_RDONLY);
    return trouble(SYSTEM, __func__);
}
int nvmlShutdown(void) { return 0; }

const char *nvmlErrorString(int code) {
    static char words[32];
    snprintf(words, sizeof words, "error %d", code);
    return words;
}

int nvmlSystemGetDriverVersion(char *out, unsigned size) {
    return text(SYSTEM, __func__, "driver", out, size);
}

int nvmlDeviceGetCount_v2(unsigned *count) { return small(SYSTEM, __func__, "count", count); }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    *handle = (void *)(intptr_t)(index + 1);
    return trouble((int)index, __func__);
}

#define TEXT(function, key) \
    int function(void *h, char *out, unsigned size) { \
        return text(number_of(h), #function, key, out, size); \
    }
#define SMALL(function, key) \
    int function(void *h, unsigned *out) { return small(number_of(h), #function, key, out); }
#define SMALL_OF(function, key) \
    int function(void *h, unsigned of, unsigned *out) { \
        (void)of; return small(number_of(h), #function, key, out); \
    }
#define NUMBER(function, key) \
    int function(void *h, unsigned long long *out) { \
        return number(number_of(h), #function, key, out); \
    }

TEXT(nvmlDeviceGetUUID, "uuid")
TEXT(nvmlDeviceGetName, "name")
SMALL(nvmlDeviceGetMinorNumber, "minor")
SMALL(nvmlDeviceGetEnforcedPowerLimit, "power_limit_milliwatts")
SMALL(nvmlDeviceGetPowerUsage, "power_milliwatts")
SMALL(nvmlDeviceGetPerformanceState, "performance_state")
SMALL(nvmlDeviceGetFanSpeed, "fan")
SMALL(nvmlDeviceGetMaxMigDeviceCount, "mig_devices")
SMALL_OF(nvmlDeviceGetTemperature, "temperature")
NUMBER(nvmlDeviceGetTotalEnergyConsumption, "energy_millijoules")
NUMBER(nvmlDeviceGetCurrentClocksThrottleReasons, "throttle")

SMALL(nvmlDeviceGetIndex, "index")
SMALL(nvmlDeviceGetPowerManagementLimit, "power_limit_milliwatts")
SMALL(nvmlDeviceGetCurrPcieLinkGeneration, "pcie_generation")
SMALL(nvmlDeviceGetMaxPcieLinkGeneration, "pcie_generation_max")
SMALL(nvmlDeviceGetCurrPcieLinkWidth, "pcie_width")
SMALL(nvmlDeviceGetMaxPcieLinkWidth, "pcie_width_max")
SMALL(nvmlDeviceGetRetiredPagesPendingStatus, "retired_pages_pending")
NUMBER(nvmlDeviceGetSupportedEventTypes, "events")

int nvmlDeviceGetEncoderUtilization(void *h, unsigned *out, unsigned *period) {
    *period = 167000;
    return small(number_of(h), __func__, "encoder", out);
}

int nvmlDeviceGetDecoderUtilization(void *h, unsigned *out, unsigned *period) {
    *period = 167000;
    return small(number_of(h), __func__, "decoder", out);
}

int nvmlDeviceGetPcieThroughput(void *h, unsigned direction, unsigned *out) {
    /* The real one counts for so long. */
    usleep(20000);
    return small(number_of(h), __func__, direction ? "pcie_received" : "pcie_sent", out);
}

int nvmlDeviceGetClockInfo(void *h, unsigned kind, unsigned *out) {
    static const char *const keys[] = {
        "graphics_clock", "sm_clock", "memory_clock", "video_clock",
    };
    return small(number_of(h), __func__, keys[kind & 3], out);
}

int nvmlDeviceGetTotalEccErrors(void *h, unsigned kind, unsigned counter, unsigned long long *out) {
    static const char *const keys[] = {
        "ecc_corrected", "ecc_aggregate_corrected", "ecc", "ecc_aggregate",
    };
    return number(number_of(h), __func__, keys[2 * (kind & 1) + (counter & 1)], out);
}

int nvmlDeviceGetRemappedRows(
    void *h, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed
) {
    char value[64];
    int code = text(number_of(h), __func__, "remapped_rows", value, sizeof value);
    if (!code) sscanf(value, "%u %u %u %u", corrected, uncorrected, pending, failed);
    return code;
}

int nvmlDeviceGetRetiredPages(
    void *h, unsigned cause, unsigned *count, unsigned long long *addresses
) {
    unsigned found = 0;
    int code = small(number_of(h), __func__, cause ? "retired_pages" : "retired_pages_single", &found);
    if (code) return code;
    code = found > *count ? INSUFFICIENT_SIZE : 0;
    for (unsigned n = 0; !code && n < found; n++) addresses[n] = n;
    *count = found;
    return code;
}

int nvmlDeviceGetFieldValues(void *h, int count, field_t *values) {
    for (int n = 0; n < count; n++) {
        char key[32];
        snprintf(key, sizeof key, "field_%u", values[n].field);
        values[n].code = (unsigned)small(number_of(h), __func__, key, &values[n].value.small);
    }
    return 0;
}

/* What is reported before somebody listens is not heard, as with the real one. */
typedef struct { int device, heard; } event_set_t;

int nvmlEventSetCreate(event_set_t **out) {
    *out = calloc(1, sizeof **out);
    return trouble(SYSTEM, __func__);
}

int nvmlDeviceRegisterEvents(void *h, unsigned long long types, event_set_t *set) {
    char value[64];
    (void)types;
    set->device = number_of(h);
    while (look(set->device, "xid", set->heard, value, sizeof value)) set->heard++;
    return trouble(set->device, __func__);
}

int nvmlEventSetWait_v2(event_set_t *set, event_t *out, unsigned milliseconds) {
    char value[64];
    int code = trouble(set->device, __func__);
    if (code) return code;
    memset(out, 0, sizeof *out);
    if (!look(set->device, "xid", set->heard, value, sizeof value)) {
        usleep(1000 * milliseconds);
        return TIMEOUT;
    }
    set->heard++;
    out->device = (void *)(intptr_t)(set->device + 1);
    out->data = strtoull(value, NULL, 10);
    /* XID 0 stands for an event that is none. */
    out->type = out->data ? XID : DOUBLE_BIT_ECC;
    out->gi = out->ci = 0xFFFFFFFF;
    return 0;
}

int nvmlEventSetFree(event_set_t *set) {
    free(set);
    return 0;
}

int nvmlDeviceGetProcessUtilization(
    void *h, share_t *out, unsigned *count, unsigned long long since
) {
    char value[64];
    unsigned found = 0;
    int code = trouble(number_of(h), __func__);
    if (code) return code;
    for (; look(number_of(h), "share", (int)found, value, sizeof value); found++) {
        if (found >= *count || !out) continue;
        share_t *one = &out[found];
        memset(one, 0, sizeof *one);
        sscanf(value, "%u %u %u %u %u", &one->pid, &one->sm, &one->memory, &one->encoder, &one->decoder);
        one->at = since + 1;
    }
    code = !found ? NOT_FOUND : !out || found > *count ? INSUFFICIENT_SIZE : 0;
    *count = found;
    return code;
}

static int keeps_accounts;

int nvmlDeviceGetAccountingMode(void *h, unsigned *mode) {
    int code = trouble(number_of(h), __func__);
    *mode = (unsigned)keeps_accounts;
    return code;
}

int nvmlDeviceSetAccountingMode(void *h, unsigned mode) {
    int code = trouble(number_of(h), __func__);
    if (!code) keeps_accounts = (int)mode;
    return code;
}

int nvmlDeviceGetAccountingBufferSize(void *h, unsigned *size) {
    *size = ACCOUNTS;
    return trouble(number_of(h), __func__);
}

int nvmlDeviceGetAccountingPids(void *h, unsigned *count, unsigned *pids) {
    char value[128];
    unsigned found = 0;
    int code = trouble(number_of(h), __func__);
    for (; !code && found < *count; found++) {
        if (!look(number_of(h), "account", (int)found, value, sizeof value)) break;
        sscanf(value, "%u", &pids[found]);
    }
    *count = found;
    return code;
}

int nvmlDeviceGetAccountingStats(void *h, unsigned pid, account_t *out) {
    char value[128];
    int code = trouble(number_of(h), __func__);
    for (int n = 0; !code && look(number_of(h), "account", n, value, sizeof value); n++) {
        unsigned who = 0;
        memset(out, 0, sizeof *out);
        sscanf(
            value, "%u %u %u %u %llu %llu %llu", &who, &out->is_running, &out->utilization,
            &out->memory_utilization, &out->max_memory, &out->milliseconds, &out->started_at
        );
        if (who == pid) return 0;
    }
    return code ? code : NOT_FOUND;
}

int nvmlDeviceGetPciInfo_v3(void *h, pci_t *out) {
    memset(out, 0, sizeof *out);
    return text(number_of(h), __func__, "bus_id", out->bus_id, sizeof out->bus_id);
}

int nvmlDeviceGetUtilizationRates(void *h, utilization_t *out) {
    int code = small(number_of(h), __func__, "utilization", &out->gpu);
    return code ? code : small(number_of(h), __func__, "memory_utilization", &out->memory);
}

int nvmlDeviceGetMemoryInfo(void *h, memory_t *out) {
    int code = number(number_of(h), __func__, "memory_total", &out->total);
    return code ? code : number(number_of(h), __func__, "memory_used_v1", &out->used);
}

int nvmlDeviceGetMemoryInfo_v2(void *h, memory_v2_t *out) {
    int code = number(number_of(h), __func__, "memory_total", &out->total);
    if (!code) code = number(number_of(h), __func__, "memory_reserved", &out->reserved);
    return code ? code : number(number_of(h), __func__, "memory_used", &out->used);
}

static int processes(void *h, const char *function, const char *key, unsigned *count, process_t *out) {
    char value[64];
    unsigned found = 0;
    int code = trouble(number_of(h), function);
    if (code) return code;
    for (; look(number_of(h), key, (int)found, value, sizeof value); found++) {
        if (found < *count && out) {
            long long memory = -1;
            memset(&out[found], 0, sizeof *out);
            sscanf(value, "%u %lld", &out[found].pid, &memory);
            out[found].memory = (unsigned long long)memory;
        }
    }
    code = found > *count ? INSUFFICIENT_SIZE : 0;
    *count = found;
    return code;
}

#define PROCESSES_IN(function, key) \
    int function(void *h, unsigned *count, process_t *out) { \
        return processes(h, #function, key, count, out); \
    }
#define PROCESSES(function, key) PROCESSES_IN(function##_v2, key) PROCESSES_IN(function##_v3, key)

PROCESSES(nvmlDeviceGetComputeRunningProcesses, "compute")
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses, "graphics")
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses, "mps")

int nvmlDeviceGetMigMode(void *h, unsigned *current, unsigned *pending) {
    int code = small(number_of(h), __func__, "mig", current);
    *pending = *current;
    return code;
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *h, unsigned index, void **out) {
    int device = 100 * (number_of(h) + 1) + (int)index;
    char uuid[96];
    *out = (void *)(intptr_t)(device + 1);
    return look(device, "uuid", 0, uuid, sizeof uuid) ? 0 : NOT_FOUND;
}
