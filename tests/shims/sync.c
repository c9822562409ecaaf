/* Loaded before the C library: writes down every sync of a process and lets chosen ones fail.
 *
 * SYNC_LOG    file to which a line is added for each sync: "ok KIND" or "failed KIND UNIX-TIME-IN-MS"
 * SYNC_FAIL   the kind of file whose next sync fails, or "#N" for the N-th sync of the process
 * SYNC_ARMED  nothing fails before this file exists
 *
 * A failure comes once. What follows succeeds, as with a kernel that has dropped the pages it could not write.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static atomic_long count;
static atomic_int failed;

static int ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

/* The part of the data directory, and what the file is there; numbers are left out. */
static void kind_of(int fd, char *kind, size_t size) {
    char link[64], path[4096];
    struct stat found;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    const char *part = strstr(path, "/log") ? "log" : strstr(path, "/state-") ? "state" : strstr(path, "/snapshots") ? "snapshots" : "top";
    const char *name = strrchr(path, '/');
    name = name ? name + 1 : path;
    if (fstat(fd, &found) == 0 && S_ISDIR(found.st_mode))
        name = "directory";
    else if (ends_with(name, ".log"))
        name = "write-ahead-file";
    else if (ends_with(name, ".sst"))
        name = "table";
    else if (ends_with(name, ".dbtmp"))
        name = "pointer";
    else if (strncmp(name, "MANIFEST", 8) == 0)
        name = "manifest";
    else if (strncmp(name, "OPTIONS", 7) == 0)
        name = "options";
    snprintf(kind, size, "%s:%.200s", part, name);
}

static int fails(int fd) {
    char kind[512], line[640];
    const char *log = getenv("SYNC_LOG"), *wanted = getenv("SYNC_FAIL"), *armed = getenv("SYNC_ARMED");
    long number = atomic_fetch_add(&count, 1) + 1;
    kind_of(fd, kind, sizeof kind);
    int hit = wanted && (wanted[0] == '#' ? atol(wanted + 1) == number : strcmp(wanted, kind) == 0);
    if (hit && armed && access(armed, F_OK) != 0)
        hit = 0;
    if (hit && atomic_exchange(&failed, 1) != 0)
        hit = 0;
    if (log) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        if (hit)
            snprintf(line, sizeof line, "failed %s %lld\n", kind, (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000);
        else
            snprintf(line, sizeof line, "ok %s\n", kind);
        int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (out >= 0) {
            if (write(out, line, strlen(line)) < 0) { /* the test will miss the line */
            }
            close(out);
        }
    }
    return hit;
}

int fsync(int fd) {
    static int (*next)(int);
    if (!next)
        next = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    if (fails(fd)) {
        errno = EIO;
        return -1;
    }
    return next(fd);
}

int fdatasync(int fd) {
    static int (*next)(int);
    if (!next)
        next = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    if (fails(fd)) {
        errno = EIO;
        return -1;
    }
    return next(fd);
}
