/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What ingest shows: the line of progress and the report at the end. */
#ifndef INGEST_REPORT_H
#define INGEST_REPORT_H

#include <stdbool.h>
#include <stdint.h>

struct job;
struct figures;
struct timeline;

/* The sampler's own. */
struct progress {
	uint64_t next_ns;
	uint64_t last_ns;
	uint64_t last_records;
	uint64_t last_bytes;
	bool open_line;		/* the terminal's line has no end yet */
};

/* Called with every sample; shows something now and then. */
void progress_tick(struct progress *progress, struct job *job,
		   const struct figures *figures, uint64_t evicted,
		   uint64_t now);
void progress_end(struct progress *progress);

/* How the memory was at the end. */
struct ending {
	uint64_t drained;	/* mapped when all was given back */
	uint64_t decayed;	/* mapped after the decay time */
	double decay_ms;	/* how long that took */
};

/* Of a job that failed, only the memory. */
void report(struct job *job, const struct timeline *timeline,
	    const struct ending *ending);

/* What the run is about.  Errors: what a write to stdout said. */
int report_start(struct job *job);

#endif
