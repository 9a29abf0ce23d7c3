/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ingest_report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "ingest.h"
#include "ingest_timeline.h"

#define MIB (1024.0 * 1024.0)
#define COLUMNS 150		/* of a line of progress, at the most */
#define ULL(x) ((unsigned long long)(x))

static void print_progress(struct progress *progress, struct job *job,
			   const struct figures *f, uint64_t evicted,
			   uint64_t now)
{
	uint64_t records = tally_get(&job->tally.records);
	uint64_t bytes = tally_get(&job->tally.bytes);
	double s = (double)(now - progress->last_ns) / 1e9;
	static const char *const names[] = { "ingest", "verify", "decay" };
	int phase = atomic_load_explicit(&job->phase, memory_order_relaxed);
	char line[COLUMNS + 1];

	snprintf(line, sizeof(line), "%5.1f s #%llu %-6s %4.2f Mrec/s "
		 "%3.0f MiB/s | active %.0f charged %.0f mapped %.0f of %.0f "
		 "MiB | regions +%llu -%llu | refused %llu | evicted %llu",
		 (double)(now - job->start_ns) / 1e9,
		 ULL(tally_get(&job->tally.passes) + (phase != JOB_DECAYS)),
		 names[phase],
		 (double)(records - progress->last_records) / 1e6 / s,
		 (double)(bytes - progress->last_bytes) / MIB / s,
		 (double)f->active_bytes / MIB, (double)f->charged / MIB,
		 (double)f->mapped / MIB, (double)f->limit / MIB,
		 ULL(f->regions_mapped), ULL(f->regions_unmapped),
		 ULL(f->refusals), ULL(evicted));
	fputs(line, stdout);
	progress->last_records = records;
	progress->last_bytes = bytes;
	progress->last_ns = now;
}

void progress_tick(struct progress *progress, struct job *job,
		   const struct figures *figures, uint64_t evicted,
		   uint64_t now)
{
	bool tty = isatty(STDOUT_FILENO);

	if (!progress->last_ns) {
		progress->last_ns = now;
		progress->next_ns = now + 500000000u;
	}
	if (now < progress->next_ns)
		return;
	progress->next_ns = now + (tty ? 500000000u : 2000000000u);
	if (tty)
		printf("\r");
	print_progress(progress, job, figures, evicted, now);
	printf(tty ? "\033[K" : "\n");
	progress->open_line = tty;
	fflush(stdout);
}

void progress_end(struct progress *progress)
{
	if (progress->open_line)
		printf("\n");
}

int report_start(struct job *job)
{
	const struct options *o = job->options;

	printf("ingest: %u file%s, %llu bytes; memory from %s, "
	       "budget %.1f MiB,\n        PageCache %.1f MiB, RecordPageCache "
	       "%.1f MiB;\n        %u writers, %u readers, epochs of "
	       "%u pairs, %s%u records a page; seed %llu\n",
	       o->file_count, o->file_count == 1 ? "" : "s",
	       ULL(job->input.bytes), job->mem->ops->name,
	       (double)o->budget_bytes / MIB,
	       (double)o->page_cache_bytes / MIB,
	       (double)o->record_cache_bytes / MIB, o->writers, o->readers,
	       o->epoch, o->all_classes ? "all classes, up to " : "",
	       o->records_per_page, ULL(o->seed));
	if (!o->quiet)
		printf("progress: #pass; records and bytes packed a second, the"
		       " time of the verification\n          included; memory;"
		       " regions mapped (+) and unmapped (-); allocations "
		       "refused;\n          pages that the caches evicted\n");
	return fflush(stdout) ? -errno : 0;
}

static void row(const char *name, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void row(const char *name, const char *format, ...)
{
	va_list args;

	printf("  %-26s ", name);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
}

static double rate(uint64_t count, uint64_t ns)
{
	return ns ? (double)count / ((double)ns / 1e9) : 0;
}

static void report_work(struct job *job)
{
	struct tally *t = &job->tally;
	uint64_t ns = tally_get(&t->ingest_ns);

	row("input", "%llu bytes, %llu passes", ULL(job->input.bytes),
	    ULL(tally_get(&t->passes)));
	row("packed", "%llu bytes, %llu records, %llu pages",
	    ULL(tally_get(&t->bytes)), ULL(tally_get(&t->records)),
	    ULL(tally_get(&t->pages)));
	row("fragments", "%llu; %llu pages taken to be continued",
	    ULL(tally_get(&t->fragments)), ULL(tally_get(&t->reopened)));
	row("", "(%llu whole out of RecordPageCache; hidden while pinned: "
	    "%llu)", ULL(tally_get(&t->taken_whole)),
	    ULL(tally_get(&t->take_removes)));
	row("epochs", "%llu commits, of these early for want of memory %llu",
	    ULL(tally_get(&t->commits)), ULL(tally_get(&t->early_commits)));
	row("store", "%llu bytes at the most, in %s", ULL(job->store.peak),
	    job->store.name);
	row("throughput", "%.1f MiB/s, %.3f M records/s while ingesting",
	    rate(tally_get(&t->bytes), ns) / MIB,
	    rate(tally_get(&t->records), ns) / 1e6);
	row("random reads", "%llu pages, %llu skipped for want of memory",
	    ULL(tally_get(&t->reads)), ULL(tally_get(&t->read_skips)));
	if (job->options->short_reads)
		row("of these without a pin", "%llu",
		    ULL(tally_get(&t->peeks)));
	row("verified", "%llu bytes, %llu pages, all equal (%.1f MiB/s)",
	    ULL(tally_get(&t->verified_bytes)),
	    ULL(tally_get(&t->verified_pages)),
	    rate(tally_get(&t->verified_bytes), tally_get(&t->verify_ns)) /
		    MIB);
}

static void report_cache(struct job *job, struct mem_cache *cache,
			 const char *name, const struct cache_peak *peak)
{
	struct cache_figures f;

	job->mem->cache_ops->figures(cache, &f);
	row(name, "%llu hits, %llu misses: %.1f %% hits; %llu loads",
	    ULL(f.hits), ULL(f.misses), 100.0 * (double)f.hits /
	    (double)(f.hits + f.misses ? f.hits + f.misses : 1), ULL(f.loads));
	row("  evictions", "%llu too heavy, %llu at the limit; listener called "
	    "for %llu", ULL(f.evictions), ULL(f.reclaims),
	    ULL(f.heard_evicted));
	row("  other ways out", "%llu taken, %llu removed or cleared",
	    ULL(f.takes), ULL(f.removals));
	row("  weight", "%.2f MiB at the most of %.2f (sampled), now %.2f",
	    (double)peak->weight / MIB, (double)f.max_weight / MIB,
	    (double)f.weight / MIB);
	row("  pinned", "%.2f MiB at the most (sampled), now %.2f",
	    (double)peak->pinned / MIB, (double)f.pinned / MIB);
	row("  keeps of the memory", "%.2f MiB at the most (sampled), now %.2f",
	    (double)peak->held / MIB, (double)f.held / MIB);
	if (f.pinned)
		job->mem->cache_ops->print_pins(cache);
}

static void report_classes(const struct figures *f)
{
	int c;

	printf("  %-26s", "  of each class");
	for (c = 0; c < SEG_CLASSES; c++)
		printf("%s %d KiB: %llu", c ? "," : "",
		       SEG_MIN_BYTES >> 10 << c, ULL(f->allocations_of[c]));
	printf("\n");
}

static void report_memory(struct job *job, const struct timeline *timeline,
			  const struct ending *ending)
{
	uint64_t gated = tally_get(&job->tally.gated);
	struct mem *mem = job->mem;
	struct figures f;

	mem->ops->figures(mem->state, &f);
	row("limit", "%.2f MiB", (double)f.limit / MIB);
	row("peak charged", "%.2f MiB (%.1f %% of the limit)",
	    (double)f.peak_charged / MIB,
	    100.0 * (double)f.peak_charged / (double)f.limit);
	row("samples", "%zu, each with no more charged than the limit",
	    timeline->count);
	row("regions", "%llu mapped, %llu unmapped", ULL(f.regions_mapped),
	    ULL(f.regions_unmapped));
	row("segments", "%llu allocated, %llu released, %llu active",
	    ULL(f.allocations), ULL(f.releases), ULL(f.active));
	report_classes(&f);
	row("at the limit", "%llu waits, %llu refusals", ULL(f.waits),
	    ULL(f.refusals));
	if (gated)
		row("refused holding nothing", "%llu (the thread then goes "
		    "on alone)", ULL(gated));
	row("longest allocate", "%.3f ms (refused: %.3f ms)",
	    (double)tally_get(&mem->longest_ns) / 1e6,
	    (double)tally_get(&mem->refused_ns) / 1e6);
	mem->ops->print_refusal(mem->state);
	row("deferred peak", "%.2f MiB (sampled)",
	    (double)timeline->deferred_peak / MIB);
	row("mapped after the drain", "%.2f MiB",
	    (double)ending->drained / MIB);
	row("mapped after the decay", "%.2f MiB, seen after %.0f ms",
	    (double)ending->decayed / MIB, ending->decay_ms);
}

void report(struct job *job, const struct timeline *timeline,
	    const struct ending *ending)
{
	printf("\nreport\n");
	if (!job_failed(job))
		report_work(job);
	report_cache(job, job->caches.fragments, "PageCache",
		     &timeline->fragments);
	report_cache(job, job->caches.pages, "RecordPageCache",
		     &timeline->pages);
	report_memory(job, timeline, ending);
	fflush(stdout);
}
