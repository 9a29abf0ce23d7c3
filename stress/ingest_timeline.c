/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ingest_timeline.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ingest.h"
#include "ingest_report.h"

#define TICK_MS 20

static const char csv_head[] =
	"ms,limit,charged,mapped,active,deferred,caches,pinned,evicted\n";

/* One look at all there is. */
struct look {
	struct figures memory;
	struct cache_figures pages;
	struct cache_figures fragments;
};

static void check(struct timeline *timeline, const struct figures *figures)
{
	if (figures->charged > figures->limit)
		job_fail(timeline->job, "%llu bytes are charged, above the "
			 "limit of %llu", (unsigned long long)figures->charged,
			 (unsigned long long)figures->limit);
	if (figures->deferred > timeline->deferred_peak)
		timeline->deferred_peak = figures->deferred;
}

/* A picture with holes is better than no run: no memory, no sample. */
static bool make_room(struct timeline *timeline)
{
	size_t room = timeline->room * 2 + 1024;
	struct sample *samples = timeline->samples;

	if (timeline->count < timeline->room)
		return true;
	samples = realloc(samples, room * sizeof(*samples));
	if (!samples)
		return false;
	timeline->samples = samples;
	timeline->room = room;
	return true;
}

static void note_peak(struct cache_peak *peak, const struct cache_figures *f)
{
	peak->weight = f->weight > peak->weight ? f->weight : peak->weight;
	peak->pinned = f->pinned > peak->pinned ? f->pinned : peak->pinned;
	peak->held = f->held > peak->held ? f->held : peak->held;
}

static void keep(struct timeline *timeline, const struct look *look,
		 uint64_t now)
{
	const struct figures *figures = &look->memory;

	if (!make_room(timeline))
		return;
	timeline->samples[timeline->count++] = (struct sample){
		.ms = (double)(now - timeline->job->start_ns) / 1e6,
		.limit = figures->limit,
		.charged = figures->charged,
		.mapped = figures->mapped,
		.active = figures->active_bytes,
		.deferred = figures->deferred,
		.caches = look->pages.held + look->fragments.held,
		.pinned = look->pages.pinned + look->fragments.pinned,
		.evicted = look->pages.heard_evicted +
			   look->fragments.heard_evicted,
	};
}

static void tick(struct timeline *timeline, struct progress *progress)
{
	struct job *job = timeline->job;
	const struct mem *mem = job->mem;
	struct look look;
	uint64_t now = now_ns();

	mem->ops->figures(mem->state, &look.memory);
	mem->cache_ops->figures(job->caches.pages, &look.pages);
	mem->cache_ops->figures(job->caches.fragments, &look.fragments);
	check(timeline, &look.memory);
	note_peak(&timeline->pages, &look.pages);
	note_peak(&timeline->fragments, &look.fragments);
	keep(timeline, &look, now);
	if (!job->options->quiet)
		progress_tick(progress, job, &look.memory,
			      look.pages.heard_evicted +
				      look.fragments.heard_evicted, now);
	job_tick(job, now);
}

static bool wait_tick(struct timeline *timeline)
{
	struct timespec until = time_in_ms(TICK_MS);
	bool stop;
	int rc = 0;

	pthread_mutex_lock(&timeline->lock);
	while (!timeline->stop && rc == 0)
		rc = pthread_cond_timedwait(&timeline->stopped,
					    &timeline->lock, &until);
	stop = timeline->stop;
	pthread_mutex_unlock(&timeline->lock);
	return !stop;
}

static void *timeline_run(void *arg)
{
	struct timeline *timeline = arg;
	struct progress progress = { 0 };

	do
		tick(timeline, &progress);
	while (wait_tick(timeline));
	tick(timeline, &progress);
	progress_end(&progress);
	return NULL;
}

int timeline_start(struct timeline *timeline, struct job *job)
{
	timeline->job = job;
	pthread_mutex_init(&timeline->lock, NULL);
	cond_open(&timeline->stopped);
	return -pthread_create(&timeline->thread, NULL, timeline_run,
			       timeline);
}

void timeline_stop(struct timeline *timeline)
{
	pthread_mutex_lock(&timeline->lock);
	timeline->stop = true;
	pthread_cond_signal(&timeline->stopped);
	pthread_mutex_unlock(&timeline->lock);
	pthread_join(timeline->thread, NULL);
	pthread_cond_destroy(&timeline->stopped);
	pthread_mutex_destroy(&timeline->lock);
}

void timeline_free(struct timeline *timeline)
{
	free(timeline->samples);
	timeline->samples = NULL;
}

int timeline_open_csv(const char *name, FILE **ret)
{
	return stream_open(name, csv_head, ret);
}

int timeline_write_csv(const struct timeline *timeline, FILE *file)
{
	size_t i;

	for (i = 0; i < timeline->count; i++) {
		const struct sample *s = &timeline->samples[i];

		fprintf(file, "%.1f,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%"
			PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64
			"\n", s->ms, s->limit, s->charged, s->mapped, s->active,
			s->deferred, s->caches, s->pinned, s->evicted);
	}
	return stream_close(file);
}

static bool parse_sample(const char *line, struct sample *ret)
{
	return sscanf(line, "%lf,%" SCNu64 ",%" SCNu64 ",%" SCNu64 ",%" SCNu64
		      ",%" SCNu64 ",%" SCNu64 ",%" SCNu64 ",%" SCNu64,
		      &ret->ms, &ret->limit, &ret->charged, &ret->mapped,
		      &ret->active, &ret->deferred, &ret->caches, &ret->pinned,
		      &ret->evicted) == 9;
}

/* Times must be finite and in their order, or nothing can be drawn. */
static int read_sample(struct timeline *timeline, const char *line)
{
	struct sample sample;
	double least = timeline->count ?
			       timeline->samples[timeline->count - 1].ms : 0;

	if (!parse_sample(line, &sample) || !sample.limit ||
	    !(sample.ms >= least && sample.ms < 1e12))
		return -EINVAL;
	if (!make_room(timeline))
		return -ENOMEM;
	timeline->samples[timeline->count++] = sample;
	return 0;
}

static int read_samples(struct timeline *timeline, FILE *file)
{
	char line[256];
	int rc = 0;

	errno = 0;
	if (!fgets(line, sizeof(line), file) || strcmp(line, csv_head))
		return ferror(file) ? -errno : -EINVAL;
	while (rc == 0 && fgets(line, sizeof(line), file))
		rc = read_sample(timeline, line);
	if (rc == 0 && ferror(file))
		rc = -errno;
	return rc ? rc : timeline->count ? 0 : -EINVAL;
}

int timeline_read_csv(struct timeline *timeline, const char *name)
{
	FILE *file = fopen(name, "r");
	int rc;

	if (!file)
		return -errno;
	rc = read_samples(timeline, file);
	fclose(file);
	return rc;
}
