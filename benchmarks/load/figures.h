/* What the load reports: latencies, and the processor time of a server. */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* ---- latencies: 32 buckets for each power of two of nanoseconds, so within 3 % */

static uint64_t histogram[64 * 32];

static void record(uint64_t ns, uint64_t count) {
    int power = 63 - __builtin_clzll(ns | 32);      /* below 32 ns is not told apart */
    histogram[(power - 5) * 32 + (ns >> (power - 5)) % 32] += count;
}

static double percentile_us(double part) {
    uint64_t total = 0, seen = 0;
    for (size_t i = 0; i < sizeof histogram / sizeof *histogram; i++) total += histogram[i];
    for (size_t i = 0; i < sizeof histogram / sizeof *histogram; i++) {
        seen += histogram[i];
        if (total && seen >= total * part) return (double)((32 + i % 32) << (i / 32)) / 1000;
    }
    return 0;
}

/* ---- CPU time, and time spent ready to run but waiting for a core: the first fields of schedstat, nanoseconds */

struct times { uint64_t running, waiting; };

/* Over all threads of the process; zeros for process 0. */
static struct times times_of(int pid) {
    struct times total = {0, 0}, one;
    char path[64];
    if (!pid) return total;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    if (!tasks) return total;       /* the server has ended, which the load will notice */
    for (struct dirent *task; (task = readdir(tasks)); ) {
        if (task->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/proc/%d/task/%.20s/schedstat", pid, task->d_name);
        FILE *file = fopen(path, "r");
        if (!file) continue;        /* the thread has ended */
        if (fscanf(file, "%lu %lu", &one.running, &one.waiting) == 2)
            total.running += one.running, total.waiting += one.waiting;
        fclose(file);
    }
    closedir(tasks);
    return total;
}
