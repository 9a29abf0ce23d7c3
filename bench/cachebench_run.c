/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Keys, and the threads of one measurement. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cachebench.h"

static const double zipf_exponent = 0.99;

const char *const bench_keys_names[KEYS_KINDS] = { "uniform", "zipf", "one" };

_Noreturn void bench_die(const char *what)
{
	fprintf(stderr, "cachebench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double seconds_of(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

double bench_now(void)
{
	return seconds_of(CLOCK_MONOTONIC);
}

/* ------------------------------------------------------------------ keys */

static uint64_t *keys_of[BENCH_THREADS_MOST];

/* The cumulated shares of the ranks. */
static double *zipf_shares(uint64_t entries)
{
	double *shares = malloc(entries * sizeof(*shares)), sum = 0;

	if (!shares)
		bench_die("malloc");
	for (uint64_t i = 0; i < entries; i++)
		shares[i] = sum += 1 / pow((double)(i + 1), zipf_exponent);
	return shares;
}

static uint64_t zipf_rank(const double *shares, uint64_t entries, double part)
{
	double wanted = part * shares[entries - 1];
	uint64_t low = 0, high = entries - 1;

	while (low < high) {
		uint64_t middle = (low + high) / 2;

		if (shares[middle] < wanted)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void draw_thread(uint64_t *keys, enum bench_keys kind,
			const double *shares, uint64_t entries, uint64_t seed)
{
	for (size_t i = 0; i < BENCH_KEYS; i++) {
		uint64_t random = bench_mix(seed + i);
		double part = (double)(random >> 11) / 0x1p53;
		uint64_t number = 0;

		if (kind == KEYS_UNIFORM)
			number = (uint64_t)(part * (double)entries);
		else if (kind == KEYS_ZIPF)
			number = zipf_rank(shares, entries, part);
		keys[i] = bench_key(number);
	}
}

void bench_draw(enum bench_keys kind, uint64_t entries, int threads,
		uint64_t seed)
{
	double *shares = kind == KEYS_ZIPF ? zipf_shares(entries) : NULL;

	for (int i = 0; i < threads; i++) {
		if (!keys_of[i])
			keys_of[i] = malloc(BENCH_KEYS * sizeof(uint64_t));
		if (!keys_of[i])
			bench_die("malloc");
		draw_thread(keys_of[i], kind, shares, entries,
			    bench_mix(seed) + ((uint64_t)i << 32));
	}
	free(shares);
}

/* --------------------------------------------------------------- threads */

/* Where each thread goes on: no subject may be given a key a second time. */
static struct {
	size_t at;
	uint64_t fresh;
} progress[BENCH_THREADS_MOST];

struct job {
	const struct bench_subject *subject;
	void *state;
	const struct bench_run *run;
	int warm, stop;		/* atomic: set when the time is over */
	pthread_barrier_t barrier;
	struct runner {
		struct job *job;
		pthread_t thread;
		struct bench_worker worker;
		double began, ended, cpu;
	} runner[BENCH_THREADS_MOST];
};

static void run_loop(struct runner *runner, const int *stop, uint64_t most)
{
	struct job *job = runner->job;

	memset(&runner->worker.count, 0, sizeof(runner->worker.count));
	runner->worker.stop = stop;
	runner->worker.most = most;
	job->subject->loop[job->run->loop](job->state, &runner->worker);
}

/*
 * For a time, and at least until most entries were met: the subject before may
 * have left none of them in the processor's caches.
 */
static void warm_up(struct runner *runner)
{
	const struct bench_run *run = runner->job->run;
	uint64_t least = 2 * run->entries / (uint64_t)run->threads;
	static const int never;

	run_loop(runner, &runner->job->warm, UINT64_MAX);
	if (runner->worker.count.ops < least)
		run_loop(runner, &never, least - runner->worker.count.ops);
}

static void *run_thread(void *arg)
{
	struct runner *runner = arg;
	struct job *job = runner->job;

	if (job->run->seconds > 0)
		warm_up(runner);
	pthread_barrier_wait(&job->barrier);
	runner->began = bench_now();
	runner->cpu = -seconds_of(CLOCK_THREAD_CPUTIME_ID);
	run_loop(runner, &job->stop, job->run->seconds > 0 ? UINT64_MAX :
		 job->run->most / (uint64_t)job->run->threads);
	runner->cpu += seconds_of(CLOCK_THREAD_CPUTIME_ID);
	runner->ended = bench_now();
	return NULL;
}

static void pause_for(double seconds)
{
	struct timespec time = {
		.tv_sec = (time_t)seconds,
		.tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9),
	};

	nanosleep(&time, NULL);
}

static void start_runner(struct job *job, int i)
{
	struct runner *runner = &job->runner[i];

	if (!progress[i].fresh)
		progress[i].fresh = (uint64_t)(i + 1) << 48;
	runner->job = job;
	runner->worker.keys = keys_of[i];
	runner->worker.at = progress[i].at;
	runner->worker.fresh = progress[i].fresh;
	errno = pthread_create(&runner->thread, NULL, run_thread, runner);
	if (errno)
		bench_die("pthread_create");
}

/* From the first start to the last end. */
static void collect(struct job *job, struct bench_result *result)
{
	double began = INFINITY, ended = 0;
	struct bench_count sum = { 0 };

	result->cpu = 0;
	for (int i = 0; i < job->run->threads; i++) {
		struct runner *runner = &job->runner[i];

		pthread_join(runner->thread, NULL);
		progress[i].at = runner->worker.at;
		progress[i].fresh = runner->worker.fresh;
		began = fmin(began, runner->began);
		ended = fmax(ended, runner->ended);
		sum.ops += runner->worker.count.ops;
		sum.gets += runner->worker.count.gets;
		sum.hits += runner->worker.count.hits;
		result->cpu += runner->cpu;
	}
	result->ops = (double)sum.ops;
	result->wall = ended - began;
	result->hit_ratio = sum.gets ? (double)sum.hits / (double)sum.gets : 0;
}

bool bench_measure(const struct bench_subject *subject, void *state,
		   const struct bench_run *run, struct bench_result *result)
{
	struct job job = { .subject = subject, .state = state, .run = run };

	if (subject->remote)
		return subject->remote(state, run, result);
	pthread_barrier_init(&job.barrier, NULL, (unsigned)run->threads + 1);
	for (int i = 0; i < run->threads; i++)
		start_runner(&job, i);
	if (run->seconds > 0)
		pause_for(run->seconds / 5);
	__atomic_store_n(&job.warm, 1, __ATOMIC_RELAXED);
	pthread_barrier_wait(&job.barrier);
	if (run->seconds > 0) {
		pause_for(run->seconds);
		__atomic_store_n(&job.stop, 1, __ATOMIC_RELAXED);
	}
	collect(&job, result);
	pthread_barrier_destroy(&job.barrier);
	return true;
}
