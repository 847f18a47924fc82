// Follow who gets and loses which segment, from the beginning of the history.
//
//     npm ci
//     node follow-history.mjs [USER_ID]
//
// Prints a line a change: all changes, or those of one user, until Ctrl-C. A consumer group keeps
// the place: the next start goes on from there.
import { kafka, topics } from './kafka.mjs'

const userId = process.argv[2]
const consumer = kafka.consumer({ groupId: process.env.GROUP ?? 'example-history' })

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, async () => {
    await consumer.disconnect()
    process.exit(0)
  })
}

await consumer.connect()
await consumer.subscribe({ topic: topics.history, fromBeginning: true })
await consumer.run({
  eachMessage: async ({ partition, message }) => {
    // Partition and offset name a change once and for all: a reader that gets one twice, after a
    // crash of its own, knows it by them.
    const place = `${partition}:${message.offset}`
    const row = JSON.parse(message.value)
    if (userId === undefined || userId === row.user_id) {
      console.log(place, row.at, row.user_id, row.operation, row.segment, row.cause)
    }
  },
})
