/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A reader fetches pages that are committed, at random while the writers
 * write, and compares some of the records with the input.  Once all is
 * written, the readers share out all pages and compare every record; what
 * they saw must cover the input exactly once.
 */
#include "ingest.h"

#include <errno.h>
#include <string.h>

#include "ingest_leaf.h"

#define SAMPLES 16
#define PATIENCE_NS UINT64_C(20000000000)

struct reader {
	struct job *job;
	uint64_t random;
	uint64_t cover;
	uint64_t bytes;
};

static int fetch(struct reader *r, uint64_t key, struct mem_page **ret_page)
{
	struct job *job = r->job;
	struct page_entry entry;

	store_entry(&job->store, key, &entry);
	if (!entry.fragments)
		return -ENOENT;
	return store_load(&job->store, job->mem, key, &entry,
			  job->options->records_per_page, ret_page);
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

static void finish_page(struct job *job, struct mem_page *page)
{
	if (job->mem->ops->page_release(page))
		job_fail(job, "a page could not be released");
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

/* One page at random; without one, or without memory, it is a skip. */
static void read_random(struct reader *r)
{
	struct job *job = r->job;
	uint64_t pages = store_pages(&job->store);
	uint64_t key = random_next(&r->random) % (pages ? pages : 1);
	struct mem_page *page;
	int rc = pages ? fetch(r, key, &page) : -ENOENT;

	if (rc == 0) {
		check_samples(r, key, page);
		finish_page(job, page);
		tally_add(&job->tally.reads, 1);
	} else if (rc == -ENOMEM) {
		tally_add(&job->tally.read_skips, 1);
	} else if (rc != -ENOENT) {
		job_fail(job, "page %llu cannot be read: %s",
			 (unsigned long long)key, strerror(-rc));
	}
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
			   struct mem_page **ret_page)
{
	int rc = fetch(r, key, ret_page);
	uint64_t since;

	if (rc != -ENOMEM)
		return rc;
	job_gate(r->job);
	since = now_ns();
	do
		rc = fetch(r, key, ret_page);
	while (rc == -ENOMEM && now_ns() - since < PATIENCE_NS);
	job_ungate(r->job);
	return rc;
}

static void verify_page(struct reader *r, uint64_t key)
{
	struct mem_page *page;
	int rc = fetch_patiently(r, key, &page);

	if (rc) {
		job_fail(r->job, "page %llu cannot be verified: %s",
			 (unsigned long long)key, strerror(-rc));
		return;
	}
	check_all(r, key, page);
	finish_page(r->job, page);
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
	struct reader r = { .job = job, .random = worker->seed };

	await_pages(job);
	/* acquire <- verify() in ingest.c: all of the pass is written */
	while (atomic_load_explicit(&job->phase, memory_order_acquire) ==
		       JOB_INGESTS && !job_failed(job))
		read_random(&r);
	verify(&r);
	return NULL;
}
