/*
 * workers.c
 *		Threads that parse and apply requests.
 */
#include "workers.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "json.h"

#define WORKERS 2

static pthread_t threads[WORKERS];
static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t queue_filled = PTHREAD_COND_INITIALIZER;
static Request *queue_head;
static Request **queue_tail = &queue_head;
static Request *finished_head;
static Request **finished_tail = &finished_head;
static bool is_stopping;
static int	finished_fd = -1;

static Request *
next_request(void)
{
	Request    *request;

	pthread_mutex_lock(&queue_lock);
	while (queue_head == NULL && !is_stopping)
		pthread_cond_wait(&queue_filled, &queue_lock);
	request = is_stopping ? NULL : queue_head;
	if (request != NULL)
	{
		queue_head = request->next_job;
		if (queue_head == NULL)
			queue_tail = &queue_head;
		request->next_job = NULL;
	}
	pthread_mutex_unlock(&queue_lock);
	return request;
}

static void *
work(void *argument)
{
	Request    *request;

	(void) argument;
	while ((request = next_request()) != NULL)
	{
		uint64_t	one = 1;

		api_handle(&request->call, &request->answer);
		pthread_mutex_lock(&queue_lock);
		*finished_tail = request;
		finished_tail = &request->next_job;
		pthread_mutex_unlock(&queue_lock);
		if (write(finished_fd, &one, sizeof(one)) != (ssize_t) sizeof(one))
			abort();
	}
	json_thread_end();
	return NULL;
}

int
workers_start(void)
{
	finished_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (finished_fd < 0)
		abort();
	for (int i = 0; i < WORKERS; i++)
		if (pthread_create(&threads[i], NULL, work, NULL) != 0)
			abort();
	return finished_fd;
}

void
workers_submit(Request *request)
{
	request->next_job = NULL;
	pthread_mutex_lock(&queue_lock);
	*queue_tail = request;
	queue_tail = &request->next_job;
	pthread_cond_signal(&queue_filled);
	pthread_mutex_unlock(&queue_lock);
}

Request *
workers_finished(void)
{
	Request    *finished;
	uint64_t	count;

	/* there may be nothing to read; the list is what counts */
	if (read(finished_fd, &count, sizeof(count)) < 0)
		count = 0;
	pthread_mutex_lock(&queue_lock);
	finished = finished_head;
	finished_head = NULL;
	finished_tail = &finished_head;
	pthread_mutex_unlock(&queue_lock);
	return finished;
}

void
workers_stop(void)
{
	pthread_mutex_lock(&queue_lock);
	is_stopping = true;
	pthread_cond_broadcast(&queue_filled);
	pthread_mutex_unlock(&queue_lock);
	for (int i = 0; i < WORKERS; i++)
		pthread_join(threads[i], NULL);
	close(finished_fd);
}
