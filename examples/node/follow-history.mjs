// Follow membership changes from the beginning of the history.
//
//     npm ci
//     node follow-history.mjs [USER_ID]
//
// Prints one line per change, of all users or of one, until Ctrl-C. A consumer group stores the
// offsets: the next start resumes there.
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
    // Partition and offset identify a change: use them to skip changes that are delivered again
    // after a crash of this program.
    const place = `${partition}:${message.offset}`
    const row = JSON.parse(message.value)
    if (userId === undefined || userId === row.user_id) {
      console.log(place, row.at, row.user_id, row.operation, row.segment, row.cause)
    }
  },
})
