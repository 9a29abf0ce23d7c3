/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory that comes and goes, in one thread: growth by 1 GiB, what is left of
 * it after a release or a purge, and room for another class.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "segbench_work.h"

enum { SMALL = 4, LARGE = 5 };	/* classes of 64 and 128 KiB */
enum { SLOWEST = 1024, PACE_NS = 50000 };	/* one of so many; see below */
static const double mib = 1 << 20;

static struct {
	char **segment;
	size_t count;
} out;

/* Touched, as our own memory is not to be seen as growth. */
static void make_room(size_t count)
{
	out.segment = malloc(count * sizeof(*out.segment));
	if (!out.segment)
		die("malloc");
	memset(out.segment, 0xff, count * sizeof(*out.segment));
}

static double ms_since(double began)
{
	return (now_ns() - began) / 1e6;
}

struct resident {
	double all;
	double own;	/* but for files: code that runs for the first time
			   brings 64 KiB of them, whoever's it is */
};

static struct resident resident_now(void)
{
	char text[128];
	long pages, of_files;
	double page_bytes = (double)sysconf(_SC_PAGESIZE);
	int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ssize_t length = file < 0 ? -1 : read(file, text, sizeof(text) - 1);

	if (length < 0)
		die("/proc/self/statm");
	close(file);
	text[length] = 0;
	if (sscanf(text, "%*s %ld %ld", &pages, &of_files) != 2)
		die("/proc/self/statm");
	return (struct resident){ (double)pages * page_bytes,
				  (double)(pages - of_files) * page_bytes };
}

/* The most that ever was resident: the kernel's own record. */
static double peak_resident_bytes(void)
{
	char line[256];
	long kib = -1;
	FILE *file = fopen("/proc/self/status", "re");

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "VmHWM: %ld kB", &kib) == 1)
			break;
	if (!file || kib < 0)
		die("/proc/self/status");
	fclose(file);
	return (double)kib * 1024;
}

static void touch(char *segment, size_t bytes)
{
	for (size_t at = 0; at < bytes; at += PAGE_BYTES)
		segment[at] = 1;
}

static void grow(size_t bytes)
{
	while (out.count < bytes / class_bytes(SMALL)) {
		char *segment = peer_get(class_bytes(SMALL));

		touch(segment, class_bytes(SMALL));
		out.segment[out.count++] = segment;
	}
}

/* The oldest first, as one that leaves in the order it came. */
static void release_all(void)
{
	for (size_t i = 0; i < out.count; i++)
		peer_put(out.segment[i], class_bytes(SMALL));
	out.count = 0;
}

/* One round trip, so that what comes later finds code and tables in memory. */
static void warm_up(void)
{
	grow(8 * class_bytes(SMALL));
	release_all();
	if (peer->purge)
		peer->purge();
}

static void report(const char *name, double value)
{
	print_figure(name, SMALL, 1, value);
}

static void grow_timed(const char *name)
{
	double began = now_ns();

	grow(settings.bytes);
	report(name, ms_since(began));
}

static void touch_timed(void)
{
	double began = now_ns();

	for (size_t i = 0; i < out.count; i++)
		touch(out.segment[i], class_bytes(SMALL));
	report("grow-touches", ms_since(began));
}

/*
 * Some give back when they are asked to, others at the release: the sum is
 * what the return of the memory takes.
 */
static void give_back(double start)
{
	double began = now_ns(), released, whole;

	release_all();
	released = ms_since(began);
	if (peer->purge)
		peer->purge();
	whole = ms_since(began);
	report("grow-release", released);
	report("grow-purge", whole - released);
	report("grow-give-back", whole);
	report("grow-left", (resident_now().own - start) / mib);
}

void grow_workload(void)
{
	double start;

	make_room(settings.bytes / class_bytes(SMALL));
	warm_up();
	start = resident_now().own;
	grow_timed("grow-cold");
	touch_timed();
	release_all();
	grow_timed("grow-again");
	give_back(start);
	grow_timed("grow-after-purge");
	release_all();
	free(out.segment);
}

static int descending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x < y) - (x > y);
}

/* In us, the mean of the slowest ones. */
static void report_slowest(const char *name, double *times, size_t count)
{
	size_t slowest = (count + SLOWEST - 1) / SLOWEST;
	double sum = 0;

	qsort(times, count, sizeof(*times), descending);
	for (size_t i = 0; i < slowest; i++)
		sum += times[i];
	report(name, sum / (double)slowest / 1e3);
}

static struct rusage usage_now(void)
{
	struct rusage usage;

	if (getrusage(RUSAGE_THREAD, &usage))
		die("getrusage");
	return usage;
}

static double system_ms(const struct rusage *usage)
{
	return (double)usage->ru_stime.tv_sec * 1e3 +
	       (double)usage->ru_stime.tv_usec / 1e3;
}

static double step_ns(void)
{
	struct timespec now;

	clock_gettime(settings.cpu ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC,
		      &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void step(double *ret_get, double *ret_touch)
{
	double start = now_ns(), began = step_ns(), got;
	char *segment = peer_get(class_bytes(SMALL));

	got = step_ns();
	touch(segment, class_bytes(SMALL));
	*ret_touch = step_ns() - got;
	*ret_get = got - began;
	out.segment[out.count++] = segment;
	while (now_ns() - start < PACE_NS)
		;
}

/*
 * A quarter, one segment after another with some time for each, as one that
 * does something with it: who waits for growth, and what does its thread do in
 * the kernel?
 */
void pace_workload(void)
{
	size_t count = settings.bytes / 4 / class_bytes(SMALL);
	double *gets = calloc(2 * count, sizeof(*gets));
	struct rusage before, after;

	if (!gets)
		die("pace");
	memset(gets, 0xff, 2 * count * sizeof(*gets));
	make_room(count);
	warm_up();
	before = usage_now();
	while (out.count < count)
		step(&gets[out.count], &gets[count + out.count]);
	after = usage_now();
	report_slowest("pace-slow-get", gets, count);
	report_slowest("pace-slow-touch", gets + count, count);
	report("pace-faults", (double)(after.ru_minflt - before.ru_minflt));
	report("pace-kernel", system_ms(&after) - system_ms(&before));
	release_all();
	free(gets);
	free(out.segment);
}

static void sleep_ms(double ms)
{
	struct timespec pause = { .tv_nsec = (long)(ms * 1e6) };

	nanosleep(&pause, NULL);
}

/* A quarter, as all peers are waited for at the same time. */
void resident_workload(void)
{
	struct resident start;
	double began, left, enough;

	make_room(settings.bytes / 4 / class_bytes(SMALL));
	warm_up();
	start = resident_now();
	enough = start.all * 0.01;
	grow(settings.bytes / 4);
	release_all();
	began = now_ns();
	while ((left = resident_now().own - start.own) > enough &&
	       ms_since(began) < settings.patience_ms)
		sleep_ms(2);
	report("resident-ms", left > enough ? INFINITY : ms_since(began));
	report("resident-start", start.all / mib);
	report("resident-left", left / mib);
	free(out.segment);
}

static void release_random(size_t count)
{
	uint64_t random = 20240229;

	while (count--) {
		size_t at = (size_t)((draw(&random) >> 11) % out.count);

		peer_put(out.segment[at], class_bytes(SMALL));
		out.segment[at] = out.segment[--out.count];
	}
}

/* libseg's budget is 1.02 of what is live here: see main(). */
void convert_workload(void)
{
	double start, live;

	make_room(settings.bytes / class_bytes(SMALL));
	warm_up();
	start = resident_now().all;
	grow(settings.bytes);
	release_random(out.count / 10 * 9);
	live = (double)out.count * (double)class_bytes(SMALL);
	while (live + (double)class_bytes(LARGE) <= (double)settings.bytes) {
		touch(peer_get(class_bytes(LARGE)), class_bytes(LARGE));
		live += (double)class_bytes(LARGE);
	}
	print_figure("convert-peak", LARGE, 1,
		     (peak_resident_bytes() - start) / (double)settings.bytes);
	if (peer->calls == CALLS_POOL)
		print_figure("convert-charged", LARGE, 1,
			     most_charged_bytes() / (double)settings.bytes);
}

/* How many of 256 results that are out together are at a page's start. */
void aligned_workload(void)
{
	enum { LOOKS = 256 };
	char *segment[LOOKS];

	for (int kind = 0; kind < SEG_CLASSES; kind++) {
		int aligned = 0;

		for (int i = 0; i < LOOKS; i++) {
			segment[i] = peer_get(class_bytes(kind));
			aligned += (uintptr_t)segment[i] % PAGE_BYTES == 0;
		}
		for (int i = 0; i < LOOKS; i++)
			peer_put(segment[i], class_bytes(kind));
		print_figure("aligned", kind, 1, aligned * 100.0 / LOOKS);
	}
}
