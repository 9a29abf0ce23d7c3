/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A reader fetches pages that are committed, skewed as such reads are, while
 * the writers write, and compares some of the records with the input.  Once
 * all is written, the readers share out all pages and compare every record;
 * what they saw must cover the input exactly once.  A page is pinned while it
 * is looked at; with --short-reads some are read without a pin.
 */
#include "ingest.h"

#include <errno.h>
#include <string.h>

#include "ingest_leaf.h"

#define SAMPLES 16
#define SHORT_SAMPLES 4
#define SHORT_BYTES 256		/* of a record, in a short read */

struct reader {
	struct job *job;
	uint64_t tag;
	uint64_t random;
	uint64_t cover;
	uint64_t bytes;
};

/* What is seen is never older than what was committed before one asked. */
static void check_version(struct job *job, uint64_t key,
			  const struct mem_page *page,
			  const struct page_entry *asked)
{
	uint64_t fragments = leaf_head(job->mem, page)->fragments;

	if (fragments < asked->revealed)
		job_fail(job, "page %llu: %u fragments are committed, but the "
			 "one seen has %llu", (unsigned long long)key,
			 asked->revealed, (unsigned long long)fragments);
}

static int fetch(struct reader *r, uint64_t key,
		 const struct page_entry *entry, struct mem_pin *ret_pin)
{
	const struct mem_cache_ops *ops = r->job->mem->cache_ops;
	int rc = caches_get(r->job, key, r->tag, ret_pin);

	if (rc == 0)
		check_version(r->job, key, ops->pinned(ret_pin), entry);
	return rc;
}

static bool record_is_equal(struct job *job, const char *slots,
			    const struct leaf_id *id)
{
	const char *want = input_at(&job->input, id->start, id->bytes);

	return want && memcmp(want, slots + id->at, id->bytes) == 0;
}

static void report_difference(struct job *job, uint64_t key,
			      const struct leaf_id *id)
{
	job_fail(job, "page %llu: the record of %u bytes at byte %llu of the "
		 "input came back different", (unsigned long long)key,
		 id->bytes, (unsigned long long)id->start);
}

static void finish_page(struct job *job, struct mem_pin *pin)
{
	int rc = job->mem->cache_ops->unpin(pin);

	if (rc)
		job_fail(job, "a page could not be unpinned: %s",
			 strerror(-rc));
}

static void check_samples(struct reader *r, uint64_t key,
			  const struct mem_page *page)
{
	const struct leaf_head *head = leaf_head(r->job->mem, page);
	const char *slots = leaf_slots(r->job->mem, page);
	unsigned i;

	for (i = 0; i < SAMPLES; i++) {
		const struct leaf_id *id =
			&head->ids[random_next(&r->random) % head->records];

		if (!record_is_equal(r->job, slots, id)) {
			report_difference(r->job, key, id);
			return;
		}
	}
}

/* What a short read takes along: the input is compared afterwards. */
struct excerpt {
	struct leaf_id id;
	char data[SHORT_BYTES];
};

static void copy_excerpts(struct reader *r, const struct mem_page *page,
			  struct excerpt *excerpts)
{
	const struct leaf_head *head = leaf_head(r->job->mem, page);
	const char *slots = leaf_slots(r->job->mem, page);
	unsigned i;

	for (i = 0; i < SHORT_SAMPLES; i++) {
		struct excerpt *e = &excerpts[i];

		e->id = head->ids[random_next(&r->random) % head->records];
		if (e->id.bytes > SHORT_BYTES)
			e->id.bytes = SHORT_BYTES;
		memcpy(e->data, slots + e->id.at, e->id.bytes);
	}
}

/* False: it is not in the cache.  Nothing blocks inside of the section. */
static bool read_short(struct reader *r, uint64_t key,
		       const struct page_entry *entry)
{
	struct job *job = r->job;
	struct excerpt excerpts[SHORT_SAMPLES];
	struct mem_page *page;
	unsigned i;
	int rc;

	seg_read_begin();
	rc = job->mem->cache_ops->peek(job->caches.pages, key, &page);
	if (rc == 0) {
		check_version(job, key, page, entry);
		copy_excerpts(r, page, excerpts);
	}
	seg_read_end();
	for (i = 0; rc == 0 && i < SHORT_SAMPLES; i++) {
		struct leaf_id id = excerpts[i].id;

		id.at = 0;
		if (!record_is_equal(job, excerpts[i].data, &id))
			report_difference(job, key, &id);
	}
	return rc == 0;
}

/* Without memory it is a skip. */
static void read_pinned(struct reader *r, uint64_t key,
			const struct page_entry *entry)
{
	struct job *job = r->job;
	struct mem_pin pin;
	int rc = fetch(r, key, entry, &pin);

	if (rc == 0) {
		check_samples(r, key, job->mem->cache_ops->pinned(&pin));
		finish_page(job, &pin);
		tally_add(&job->tally.reads, 1);
	} else if (rc == -ENOMEM) {
		tally_add(&job->tally.read_skips, 1);
	} else {
		job_fail(job, "page %llu cannot be read: %s",
			 (unsigned long long)key, strerror(-rc));
	}
}

static void read_random(struct reader *r)
{
	struct job *job = r->job;
	struct page_entry entry;
	uint64_t key;

	if (!store_pick(&job->store, random_next(&r->random), &key, &entry))
		return;
	if (job->options->short_reads && random_next(&r->random) % 2 &&
	    read_short(r, key, &entry)) {
		tally_add(&job->tally.reads, 1);
		tally_add(&job->tally.peeks, 1);
		return;
	}
	read_pinned(r, key, &entry);
}

/* Compares all records and adds them to what is covered. */
static void check_all(struct reader *r, uint64_t key,
		      const struct mem_page *page)
{
	const struct leaf_head *head = leaf_head(r->job->mem, page);
	const char *slots = leaf_slots(r->job->mem, page);
	uint32_t i;

	for (i = 0; i < head->records; i++) {
		const struct leaf_id *id = &head->ids[i];

		if (!record_is_equal(r->job, slots, id)) {
			report_difference(r->job, key, id);
			return;
		}
		r->cover += input_cover(id->start, id->bytes);
		r->bytes += id->bytes;
	}
	tally_add(&r->job->tally.verified_pages, 1);
	tally_add(&r->job->tally.verified_bytes, head->used);
}

/* As fetch(), but memory that is refused is waited for, in the end alone. */
static int fetch_patiently(struct reader *r, uint64_t key,
			   struct mem_pin *ret_pin)
{
	struct page_entry entry;
	uint64_t since;
	int rc;

	store_entry(&r->job->store, key, &entry);
	rc = fetch(r, key, &entry, ret_pin);
	if (rc != -ENOMEM)
		return rc;
	job_gate(r->job);
	since = now_ns();
	do
		rc = fetch(r, key, &entry, ret_pin);
	while (rc == -ENOMEM && now_ns() - since < job_patience_ns(r->job));
	job_ungate(r->job);
	return rc;
}

static void verify_page(struct reader *r, uint64_t key)
{
	struct job *job = r->job;
	struct mem_pin pin;
	int rc = fetch_patiently(r, key, &pin);

	if (rc == -ENOMEM && job->options->before) {
		job_fail(job, OUT_OF_MEMORY);
		return;
	}
	if (rc) {
		job_fail(job, "page %llu cannot be verified: %s",
			 (unsigned long long)key, strerror(-rc));
		return;
	}
	check_all(r, key, job->mem->cache_ops->pinned(&pin));
	finish_page(job, &pin);
}

/* Waits for the first committed page. */
static void await_pages(struct job *job)
{
	pthread_mutex_lock(&job->lock);
	while (!job->committer.done && !job_failed(job) &&
	       atomic_load_explicit(&job->phase, memory_order_relaxed) ==
		       JOB_INGESTS)
		pthread_cond_wait(&job->changed, &job->lock);
	pthread_mutex_unlock(&job->lock);
}

static void verify(struct reader *r)
{
	struct job *job = r->job;
	uint64_t pages = store_pages(&job->store);

	while (!job_failed(job)) {
		uint64_t key = atomic_fetch_add_explicit(
			&job->verify_next, 1, memory_order_relaxed);

		if (key >= pages)
			break;
		verify_page(r, key);
	}
	tally_add(&job->cover, r->cover);
	tally_add(&job->cover_bytes, r->bytes);
}

void *reader_run(void *arg)
{
	struct worker *worker = arg;
	struct job *job = worker->job;
	struct reader r = {
		.job = job,
		.tag = worker->number - job->options->writers + 1,
		.random = worker->seed,
	};

	await_pages(job);
	/* acquire <- verify() in ingest.c: all of the pass is written */
	while (atomic_load_explicit(&job->phase, memory_order_acquire) ==
		       JOB_INGESTS && !job_failed(job))
		read_random(&r);
	verify(&r);
	return NULL;
}
