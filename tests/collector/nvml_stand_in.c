/* A stand-in for libnvidia-ml.so.1: says what a text file says, which is read anew at each call.
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
#include <unistd.h>

typedef struct { unsigned gpu, memory; } utilization_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2_t;
typedef struct { unsigned pid; unsigned long long memory; unsigned gi, ci; } process_t;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } pci_t;

enum { NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };
#define SYSTEM (-1)

/* Copy the nth value of a device's key; return whether there is one. */
static int look(int device, const char *key, int nth, char *value, size_t size) {
    FILE *file = fopen(getenv("NVML_STAND_IN"), "r");
    char line[512], name[64], who[16];
    int found = 0;
    while (file && !found && fgets(line, sizeof line, file)) {
        int offset = 0;
        if (sscanf(line, "%15s %63s %n", who, name, &offset) < 2 || strcmp(name, key)) continue;
        if ((strcmp(who, "-") ? atoi(who) : SYSTEM) != device || nth-- > 0) continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(value, size, "%s", line + offset);
        found = 1;
    }
    if (file) fclose(file);
    return found;
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

int nvmlDeviceGetClockInfo(void *h, unsigned kind, unsigned *out) {
    return small(number_of(h), __func__, kind == 1 ? "sm_clock" : "memory_clock", out);
}

int nvmlDeviceGetTotalEccErrors(void *h, unsigned kind, unsigned since, unsigned long long *out) {
    (void)kind, (void)since;
    return number(number_of(h), __func__, "ecc", out);
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

#define PROCESSES(function, key) \
    int function(void *h, unsigned *count, process_t *out) { \
        return processes(h, #function, key, count, out); \
    }

PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, "compute")
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, "graphics")
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v3, "mps")

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
